import gc
import subprocess
import warnings

import pytest

from storage.digest import digest_file
from storage.manifests import table_rows
from storage.shards import ShardFile, ShardWriter

SAMPLES = [
    (f"clip-{number}", {"mp4": b"video %d" % number, "latents.safetensors": bytes(number)}, {"score": number / 4})
    for number in range(5)
]


def write(folder, samples=SAMPLES, samples_per_shard=2) -> tuple[ShardFile, ...]:
    with ShardWriter(folder, samples_per_shard) as writer:
        for sample in samples:
            writer.write(*sample)
        return writer.close()


def names(folder) -> list[str]:
    """The names of all files, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def test_samples_are_spread_over_shards(tmp_path):
    shards = write(tmp_path)
    assert names(tmp_path) == ["000000.tar", "000001.tar", "000002.tar", "samples.parquet"]
    assert [(shard.name, shard.samples) for shard in shards] == [
        ("000000.tar", 2),
        ("000001.tar", 2),
        ("000002.tar", 1),
    ]
    for shard in shards:
        assert shard.digest == digest_file(tmp_path / shard.name)
        assert shard.size == (tmp_path / shard.name).stat().st_size


def test_the_bytes_of_a_shard_are_fixed(tmp_path):
    """A change here makes every training run of every store start anew."""
    assert write(tmp_path)[0].digest == "dc1765ada04ac0cbb69c1aa1ea2208b6d1c6707cba6037e537bc0eb3746b489b"


def test_the_same_samples_give_the_same_bytes(tmp_path):
    backwards = [(key, dict(reversed(files.items())), columns) for key, files, columns in SAMPLES]
    assert write(tmp_path / "one") == write(tmp_path / "two", backwards)
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_table_says_where_each_sample_lies(tmp_path):
    write(tmp_path)
    rows = table_rows((tmp_path / "samples.parquet").read_bytes())
    assert rows[2] == {"shard": "000001.tar", "key": "clip-2", "score": 0.5}
    assert [row["key"] for row in rows] == [key for key, _, _ in SAMPLES]


def test_tar_reads_a_shard(tmp_path):
    write(tmp_path)
    listed = subprocess.run(["tar", "-tvf", tmp_path / "000000.tar"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in listed.splitlines()] == [
        "clip-0.latents.safetensors",
        "clip-0.mp4",
        "clip-1.latents.safetensors",
        "clip-1.mp4",
    ]
    assert all(line.startswith("-rw-r--r-- 0/0") and "1970-01-01" in line for line in listed.splitlines())
    content = subprocess.run(["tar", "-xOf", tmp_path / "000000.tar", "clip-1.mp4"], capture_output=True, check=True)
    assert content.stdout == b"video 1"


def test_webdataset_reads_what_was_written(tmp_path):
    import webdataset

    long_key = "0123456789abcdef" * 10  # More than a plain tar header holds.
    samples = {key: files for key, files, _ in SAMPLES} | {long_key: {"json": b"{}", "mp4": bytes(range(256)) * 40}}
    shards = write(tmp_path, [(key, files, {}) for key, files in samples.items()])
    urls = [str(tmp_path / shard.name) for shard in shards]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves the closing of shards to the collector.
        found = {
            sample["__key__"]: {name: data for name, data in sample.items() if not name.startswith("__")}
            for sample in webdataset.WebDataset(urls, shardshuffle=False)
        }
        gc.collect()
    assert found == samples


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../a", "__a__", "a b", "ä"])
def test_keys_that_readers_would_misread_are_refused(tmp_path, key):
    with ShardWriter(tmp_path, 2) as writer, pytest.raises(ValueError, match="a sample's key is"):
        writer.write(key, {"mp4": b""}, {})


@pytest.mark.parametrize("extension", ["", ".mp4", "MP4", "a/b", "mp4."])
def test_extensions_that_readers_would_misread_are_refused(tmp_path, extension):
    with ShardWriter(tmp_path, 2) as writer, pytest.raises(ValueError, match="a file's extension is"):
        writer.write("a", {extension: b""}, {})


def test_a_key_is_written_once(tmp_path):
    with ShardWriter(tmp_path, 1) as writer:
        writer.write("a", {"mp4": b""}, {})
        with pytest.raises(ValueError, match="the sample a was written already"):
            writer.write("a", {"mp4": b""}, {})


def test_nothing_is_seen_before_the_end(tmp_path):
    with ShardWriter(tmp_path, 1) as writer:
        for sample in SAMPLES:
            writer.write(*sample)
        assert all(name.startswith(".") for name in names(tmp_path))


def test_nothing_is_left_where_the_block_raises(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, 2) as writer:
        for sample in SAMPLES[:3]:
            writer.write(*sample)
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_what_an_earlier_writer_left_is_replaced(tmp_path):
    write(tmp_path, samples_per_shard=1)
    (tmp_path / ".000004.tar.0123.tmp").write_bytes(b"of a killed process")
    write(tmp_path, SAMPLES[:1])
    assert names(tmp_path) == ["000000.tar", "samples.parquet"]


def test_without_samples_there_is_an_empty_table(tmp_path):
    assert write(tmp_path, []) == ()
    assert table_rows((tmp_path / "samples.parquet").read_bytes()) == []
