"""The work pools' job template, through prefect-kubernetes as a worker uses it and the Kubernetes client's models."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
import yaml
from kubernetes_asyncio.client import ApiClient, Configuration, V1Job, V1PersistentVolumeClaim, V1Secret
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.templating import find_placeholders
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

FOLDER = Path(__file__).parents[2] / "deployments" / "kubernetes"
TEMPLATE: dict[str, Any] = json.loads((FOLDER / "job-template.json").read_text())
VARIABLES: dict[str, Any] = TEMPLATE["variables"]
RESOURCES: dict[str, dict[str, Any]] = {
    resource["kind"]: resource for resource in yaml.safe_load_all((FOLDER / "resources.example.yaml").read_text())
}


def job(**values: object) -> dict[str, Any]:
    """The manifest of a flow run's job in a pool with this template, with a deployment's job variables."""

    async def make() -> KubernetesWorkerJobConfiguration:
        # The template names neither blocks nor variables of a server, so none is asked.
        no_client: Any = SimpleNamespace()
        found = await KubernetesWorkerJobConfiguration.from_template_and_values(TEMPLATE, values, client=no_client)
        found.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="retrain"))
        return found

    return asyncio.run(make()).job_manifest


def as_model(kind: type, resource: dict[str, Any]) -> Any:
    """Into the client's models and back; fields that Kubernetes does not know are lost on the way."""

    async def there_and_back() -> Any:
        async with ApiClient(Configuration()) as client:
            response = SimpleNamespace(data=json.dumps(resource))
            return client.sanitize_for_serialization(client.deserialize(response, kind.__name__))

    return asyncio.run(there_and_back())


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    [only] = manifest["spec"]["template"]["spec"]["containers"]
    return only


def test_the_variables_are_a_valid_schema_and_their_defaults_fit_it() -> None:
    jsonschema.Draft7Validator.check_schema(VARIABLES)
    defaults = {name: about["default"] for name, about in VARIABLES["properties"].items() if "default" in about}
    jsonschema.validate(defaults, VARIABLES)


def test_every_placeholder_is_a_variable_and_every_variable_is_used() -> None:
    used = {placeholder.name for placeholder in find_placeholders(TEMPLATE["job_configuration"])}
    assert used == set(VARIABLES["properties"])


def test_it_has_all_that_the_installed_prefect_kubernetes_offers() -> None:
    default = KubernetesWorker.get_default_base_job_template()
    assert set(default["variables"]["properties"]) <= set(VARIABLES["properties"])
    assert set(default["job_configuration"]) == set(TEMPLATE["job_configuration"])


@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_a_job_gets_the_gpus_that_its_deployment_asks_for(gpus: int) -> None:
    assert container(job(gpus=gpus))["resources"]["limits"]["nvidia.com/gpu"] == gpus


def test_a_job_has_store_keys_and_weights() -> None:
    manifest = job(store="s3://other/place", store_secret="keys", weights_claim="weights-of-us")
    assert {"name": "IPA_HOME", "value": "s3://other/place"} in container(manifest)["env"]
    assert container(manifest)["envFrom"] == [{"secretRef": {"name": "keys"}}]
    [weights] = [mount["name"] for mount in container(manifest)["volumeMounts"] if mount["mountPath"] == "/models"]
    volumes = {volume["name"]: volume for volume in manifest["spec"]["template"]["spec"]["volumes"]}
    assert volumes[weights]["persistentVolumeClaim"] == {"claimName": "weights-of-us"}


def test_a_deployments_environment_comes_on_top() -> None:
    names = [entry["name"] for entry in container(job(env={"HF_TOKEN": "x"}))["env"]]
    assert {"HF_TOKEN", "IPA_HOME", "PREFECT__FLOW_RUN_ID"} <= set(names)
    assert len(names) == len(set(names))


def test_a_job_goes_to_the_nodes_it_is_told_and_is_cleared_away() -> None:
    manifest = job(node_selector={"gpu": "h100"}, tolerations=[{"operator": "Exists"}], finished_job_ttl=60)
    pod = manifest["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"gpu": "h100"}, [{"operator": "Exists"}])
    assert manifest["spec"]["ttlSecondsAfterFinished"] == 60


def test_a_job_runs_without_rights_as_the_images_user() -> None:
    dockerfile = (FOLDER.parent / "Dockerfile").read_text()
    user = re.search(r"useradd --uid (\d+)", dockerfile)
    assert user
    context = job()["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "runAsUser": int(user[1]), "fsGroup": int(user[1])}


def test_the_manifest_is_one_that_kubernetes_knows() -> None:
    manifest = json.loads(json.dumps(job()))
    # These two are Prefect's: it writes fields of the job into the pod, where Kubernetes passes them over.
    for field in ("parallelism", "completions"):
        del manifest["spec"]["template"]["spec"][field]
    manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "1"
    assert as_model(V1Job, manifest) == manifest


@pytest.mark.parametrize(("model", "kind"), [(V1Secret, "Secret"), (V1PersistentVolumeClaim, "PersistentVolumeClaim")])
def test_the_examples_are_resources_that_kubernetes_knows(model: type, kind: str) -> None:
    assert as_model(model, RESOURCES[kind]) == RESOURCES[kind]


def test_the_examples_have_the_names_that_the_template_expects_and_no_values() -> None:
    variables = VARIABLES["properties"]
    assert RESOURCES["Secret"]["metadata"]["name"] == variables["store_secret"]["default"]
    assert RESOURCES["PersistentVolumeClaim"]["metadata"]["name"] == variables["weights_claim"]["default"]
    keys = RESOURCES["Secret"]["stringData"]
    assert keys["AWS_ACCESS_KEY_ID"] == keys["AWS_SECRET_ACCESS_KEY"] == "change-me"
