"""What a stranger may put into files, names and addresses: pickles, archives, scripts, formulas, passwords."""

from __future__ import annotations

import csv
import io
import os
import pickle
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from flows.orchestration.monitoring import _outcome
from flows.review import exchange
from ipa_core.alignment.checkpoint import Checkpoint
from ipa_core.alignment.data import ShardSamples
from ipa_core.config import ConfigError, RunConfig
from ipa_core.config_file import load_config
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.latents import latents_from_bytes
from ipa_core.models.wan_vace.lora_reader import read_lora
from ipa_core.records import PoseSequence
from ipa_core.reporting.page import CONTENT_SECURITY_POLICY, Page, Section, Table
from ipa_core.reporting.run_record import render_report
from storage import StoreError
from storage.damage import unsealed_text
from storage.folders import open_folder
from storage.manifests import table_rows
from tests.alignment.samples import make_samples, write_shards
from tests.evaluation.material import run_record
from tests.flows.test_web import Drop, RunSummary

ROOT: Final = Path(__file__).parents[1]
HOSTILE: Final = ("<script>alert(1)</script>", "a|b\n# heading", "=cmd()", "\u202etxt.exe", "[x](javascript:alert(1))")


class Bomb:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def shard(folder: Path, data: bytes) -> None:
    with tarfile.open(folder / "000000.tar", "w") as tar:
        for kind in ("json", "latents.safetensors", "conditioning.safetensors", "pose.safetensors", "mp4"):
            member = tarfile.TarInfo(f"a.{kind}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    ShardSamples([folder / "000000.tar"])[0]


def numpy_file(folder: Path, data: bytes) -> None:
    import numpy as np

    (folder / "a.npz").write_bytes(data)
    for part in np.load(folder / "a.npz", allow_pickle=False).values():
        np.asarray(part).sum()


READERS: Final[dict[str, Callable[[Path, bytes], object]]] = {
    "checkpoint": lambda folder, data: Checkpoint.from_bytes(data),
    "latents": lambda folder, data: latents_from_bytes(data),
    "conditioning": lambda folder, data: Conditioning.from_bytes(data),
    "pose": lambda folder, data: PoseSequence.from_bytes(data),
    "LoRA": lambda folder, data: read_lora(data, torch.nn.Linear(1, 1)),
    "shard": shard,
    "numpy": numpy_file,
    "Parquet": lambda folder, data: table_rows(data),
}


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_loads_a_pickle(reader: str, form: str, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "it ran")
    sink = io.BytesIO()
    torch.save(bomb, sink)
    data = pickle.dumps(bomb) if form == "pickle" else sink.getvalue()
    with pytest.raises(Exception):  # noqa: B017 - each reader has its own error; that nothing ran is the point
        READERS[reader](tmp_path, data)
    assert not (tmp_path / "it ran").exists()


def test_nothing_in_the_code_loads_a_pickle() -> None:
    """Each call that could is here, with what makes it harmless."""
    pattern = re.compile(r"pickle\.loads?\(|(?<!safetensors\.)torch\.load\(|np\.load\(.*|joblib|dill\.|shelve")
    found = [
        (path.relative_to(ROOT).as_posix(), match[0])
        for room in ("flows", "ipa_core", "storage")
        for path in (ROOT / room).rglob("*.py")
        for match in pattern.finditer(path.read_text())
    ]
    assert {(file, text.partition(")")[0]) for file, text in found} == {
        ("flows/experiments/score_measures.py", "np.load(path, allow_pickle=False"),
        ("ipa_core/scoring/finger_training.py", "np.load(path, allow_pickle=False"),
    }


def test_a_shard_is_read_without_links_devices_and_places_outside(tmp_path: Path) -> None:
    [path] = write_shards(tmp_path, make_samples(2), 2)
    outside = tmp_path / "outside.json"
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "a.json"), (tarfile.LNKTYPE, "b.json"), (tarfile.CHRTYPE, "c.json")):
            odd = tarfile.TarInfo(name)
            odd.type, odd.linkname = kind, "/etc/passwd"
            tar.addfile(odd)
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    samples = ShardSamples([path])
    assert [samples[index].key for index in range(len(samples))] == [sample.key for sample in make_samples(2)]
    assert not outside.exists()


@pytest.mark.parametrize("page", ["report", "sweep"])
def test_a_page_forbids_scripts_wherever_it_is_opened(page: str) -> None:
    html = render_report(run_record(), None) if page == "report" else Page("sweep", ()).html()
    assert f'content="{CONTENT_SECURITY_POLICY}"'.replace("'", "&#39;") in html
    assert "script-src" not in CONTENT_SECURITY_POLICY and "default-src 'none'" in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_cell_of_a_page(name: str) -> None:
    page = Page("sweep", (Section("", (Table(("arm", "score"), ((name, "1"),)),)),))
    assert "<script>alert" not in page.html()
    table = page.markdown().split("\n\n")[1].splitlines()
    assert len(table) == 3 and "<script>" not in table[2]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text_in_the_prefect_ui(name: str) -> None:
    text = _outcome(RunSummary("a", "failed", (), {}, name, (Drop("clips", name, name),)))
    [line] = [line for line in text.splitlines() if line.startswith("- clips")]
    for mark in ("<script>", "](", "|b"):
        assert mark not in line.replace("\\|", "")


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@sum", "\tx", "\rx"])
def test_an_export_holds_no_formula_and_comes_back_as_it_was(text: str) -> None:
    row = exchange._as_text({"name": text, "score": -0.5})
    assert row == {"name": f"'{text}", "score": -0.5}
    sink = io.StringIO()
    csv.DictWriter(sink, ["name"]).writerow({"name": row["name"]})
    assert exchange._from_text({"name": row["name"]}) == {"name": text}
    assert exchange._from_text({"name": "'quoted'"}) == {"name": "'quoted'"}


@pytest.mark.parametrize("secret", ["K:hunter2", "K:hun/hunter2", "K:12/hunter2", "hunter2"])
def test_a_password_in_the_stores_address_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(StoreError, match=r"\.\.\.@bucket/store holds a password") as error:
        open_folder(f"s3://{secret}@bucket/store")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "field", ["execution.store=s3://K:hunter2@b/s", "clips.sources=[s3://K:hunter2@b/v]", "clips.metadata=s3://K:hu/hunter2@b/m.csv"]
)  # fmt: skip
def test_a_password_in_a_config_is_refused_and_not_shown(field: str) -> None:
    with pytest.raises(ConfigError, match="holds a password") as error:
        load_config(ROOT / "configs" / "demo.yaml", [field])
    assert "hunter2" not in str(error.value)


def test_a_report_without_its_seal_is_rendered_again() -> None:
    assert unsealed_text(b"<p>anything</p>") is None


def test_an_at_sign_behind_the_bucket_is_no_password() -> None:
    addresses = ("s3://bucket/a@b.mp4", "s3://bucket/a:b.mp4", "http://host:80/a@b.mp4")
    config: RunConfig = load_config(ROOT / "configs" / "demo.yaml", [f"clips.sources=[{', '.join(addresses)}]"])
    assert config.clips.sources == addresses
