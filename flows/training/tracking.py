"""The runs of a training in Weights & Biases and MLflow (`execution.trackers`), by accelerate's trackers.

The store keeps the id of each run, so a continued training and the end of the pipeline's run go on with the same one. A
tracker that fails is left with a warning: no training is lost for it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from ipa_core.config import RunConfig
from storage import Store
from storage.folders import LocalFolder

log = logging.getLogger("flows.training")


class Tracker(Protocol):
    """A run in one tracking service. ``run`` is the service's id of it."""

    run: str

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step; a step that the run has already is left out."""

    def video(self, name: str, path: Path, step: int) -> None: ...

    def files(self, name: str, paths: Sequence[Path]) -> None: ...

    def close(self, failed: bool) -> None: ...


class WandB:
    """With ``WANDB_MODE=offline`` the run is written to ``folder``, and `wandb sync` sends it."""

    def __init__(self, config: RunConfig, folder: Path | None, run: str | None) -> None:
        from accelerate.tracking import WandBTracker

        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._tracker = WandBTracker(
            os.environ.get("WANDB_PROJECT", "ipa"),
            name=config.name,
            id=run,
            resume=None if run is None else "allow",
            dir=folder,
            settings={"silent": True, "console": "off"},
        )
        self._tracker.start()
        self._run: Any = self._tracker.tracker
        self.run: str = self._run.id
        self._next = self._run.step or 0
        if run is None:
            self._tracker.store_init_configuration(settings_of(config))
        offline = f"offline; `wandb sync {Path(self._run.dir).parent}` sends the run"
        log.info("wandb: %s", offline if self._run.offline else self._run.url)

    def log(self, values: Mapping[str, float], step: int) -> None:
        if step >= self._next:
            self._tracker.log(dict(values), step=step)

    def video(self, name: str, path: Path, step: int) -> None:
        import wandb

        if step >= self._next:
            self._run.log({name: wandb.Video(str(path), format="mp4")}, step=step)

    def files(self, name: str, paths: Sequence[Path]) -> None:
        import wandb

        artifact = wandb.Artifact(f"{name}-{self.run}", type=name)
        for path in paths:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)


class MLflow:
    """Without ``MLFLOW_TRACKING_URI`` the run goes into a database in ``folder``."""

    def __init__(self, config: RunConfig, folder: Path | None, run: str | None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        artifacts = None
        if "MLFLOW_TRACKING_URI" not in os.environ and folder is not None:
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
            artifacts = (folder / "mlflow").as_uri()
        import mlflow
        from accelerate.tracking import MLflowTracker

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "ipa")
        self._tracker = MLflowTracker(name, logging_dir=artifacts, run_id=run, run_name=config.name)
        self._tracker.start()
        self.run: str = self._tracker.tracker.info.run_id
        self._mlflow: Any = mlflow
        known = mlflow.MlflowClient().get_metric_history(self.run, "alignment/loss") if run else []
        self._next = max((metric.step + 1 for metric in known), default=0)
        if run is None:
            self._tracker.store_init_configuration(settings_of(config))
        log.info("mlflow: run %s at %s", self.run, mlflow.get_tracking_uri())

    def log(self, values: Mapping[str, float], step: int) -> None:
        if step >= self._next:
            self._tracker.log(dict(values), step=step)

    def video(self, name: str, path: Path, step: int) -> None:
        self._tracker.log_artifact(str(path), str(Path(name).parent))

    def files(self, name: str, paths: Sequence[Path]) -> None:
        for path in paths:
            self._tracker.log_artifact(str(path), name)

    def close(self, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


KINDS: Final[Mapping[str, Callable[[RunConfig, Path | None, str | None], Tracker]]] = {"wandb": WandB, "mlflow": MLflow}


class Trackers:
    """The trackers of the config. Those of several processes are opened by the first alone."""

    def __init__(self, store: Store, key: str, config: RunConfig) -> None:
        """``key``: of the training's action."""
        self._store = store
        self._name = f"trackers/{key}.json"
        self._config = config
        self._open: dict[str, Tracker] = {}

    def open(self, *, resume: bool) -> None:
        """Begin a run in each tracker; with ``resume`` go on with the one that this training has, if it has one."""
        names = self._config.execution.trackers
        if not names:
            return
        from accelerate import PartialState

        PartialState(cpu=True)  # Its trackers write no log without; if there is one already, it stays.
        known = json.loads(self._store.folder.read(self._name) or "{}")
        runs = known if resume else {}
        folder = self._folder()
        for name in names:
            try:
                self._open[name] = KINDS[name](self._config, folder, runs.get(name))
            except Exception as error:  # noqa: BLE001 - a library of others, and a network
                log.warning("%s: no run could be opened, and nothing is logged there: %s", name, _sentence(error))
                continue
            if known or resume:
                log.info("%s: %s", name, "the same run goes on" if name in runs else "a new run begins")
        runs |= {name: tracker.run for name, tracker in self._open.items()}
        self._store.folder.write(self._name, json.dumps(runs).encode())

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._each(lambda tracker: tracker.log(values, step))

    def video(self, name: str, path: Path, step: int) -> None:
        self._each(lambda tracker: tracker.video(name, path, step))

    def files(self, name: str, paths: Sequence[Path]) -> None:
        self._each(lambda tracker: tracker.files(name, paths))

    def close(self, *, failed: bool = False) -> None:
        self._each(lambda tracker: tracker.close(failed))
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                act(tracker)
            except Exception as error:  # noqa: BLE001 - as above
                log.warning("%s: nothing more is logged there: %s", name, _sentence(error))
                del self._open[name]

    def _folder(self) -> Path | None:
        """Return the folder for files of the trackers: the store's own, if it is local."""
        folder = self._store.folder
        if not isinstance(folder, LocalFolder):
            return None
        path = folder.path.resolve() / "trackers"
        path.mkdir(parents=True, exist_ok=True)
        return path


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the settings that change results, by their dotted names."""
    found: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{name}.")
            else:
                found[prefix + name] = value

    walk(config.model_dump(mode="json", exclude={"execution"}), "")
    return found


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
