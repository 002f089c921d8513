"""The science of Implicit Preference Alignment: knows no orchestrator, no store and no paths of a run."""
