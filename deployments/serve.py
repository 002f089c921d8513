"""One process for one machine, no work pool needed: python deployments/serve.py, or `ipa serve`."""

from flows.orchestration.serving import serve_here

if __name__ == "__main__":
    serve_here()
