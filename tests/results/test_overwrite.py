"""Results never overwrite an input, the result of another option, or a file of another kind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.labels import exact
from agedge.predict import COLUMNS, to_json
from agedge.records import RecordWriter, encode
from agedge.results.kinds import (
    ANNOTATIONS,
    DEPLOY_CHECK,
    FACES_TABLE,
    FOLDER,
    MARKED_IMAGE,
    METRICS,
    PREDICTIONS,
    SUMMARY,
    is_marked,
    mark_image,
)
from agedge.results.overwrite import (
    Result,
    check_model_folder,
    check_results,
    model_inputs,
    record_inputs,
    record_results,
    split_results,
)
from agedge.results.stream import ResultStream
from agedge.safe_write import write_json
from agedge.shipped import ROOT, find_shipped


def refuse(match: str, path, kind=PREDICTIONS, reads=(), option="--json"):
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UsageError, match=match) as caught:
        check_results([Result(option, path, kind)], reads)
    assert str(caught.value).startswith(f"{option} {path}") and "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_an_input_is_refused_under_any_of_its_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"")  # empty, so that it is refused only because it is read
    (tmp_path / "soft.jpg").symlink_to("a.jpg")
    os.link(photo, "hard.jpg")
    (tmp_path / "sub").mkdir()
    for path in (photo, Path("a.jpg"), Path("sub/../a.jpg"), Path("soft.jpg"), Path("hard.jpg")):
        refuse("the same command reads this file", path, reads=[photo])
    (tmp_path / "dangling").symlink_to("later.json")
    refuse("reads this file", tmp_path / "dangling", reads=["later.json"])


def test_two_options_never_write_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for other in ("x", "./x", "y/../x", tmp_path / "x"):
        with pytest.raises(UsageError, match="^--csv .*x: --json writes this file too"):
            check_results([Result("--json", Path("x"), PREDICTIONS), Result("--csv", Path(other), FACES_TABLE)])
    with pytest.raises(UsageError, match="^--csv -: --json writes to stdout too"):
        check_results([Result("--json", Path("-"), PREDICTIONS), Result("--csv", Path("-"), FACES_TABLE)])
    check_results([Result("--json", Path("x"), PREDICTIONS), Result("--csv", None, FACES_TABLE)])
    null = Path(os.devnull)
    check_results([Result("--json", null, PREDICTIONS), Result("--csv", null, FACES_TABLE)])


def make_others(folder: Path) -> list:
    """Write files of a user, none of which is a result of an evaluation. Returns their paths."""
    image = np.full((20, 20, 3), 90, np.uint8)
    with RecordWriter(folder / "pack.rec") as writer:
        writer.write(exact(1, 30), encode(image))
    for name in ("photo.jpg", "photo.png", "photo.bmp"):
        cv2.imwrite(str(folder / name), image)
    (folder / "notes.txt").write_text("# Notes\nnothing to lose\n")
    (folder / "recipe.yaml").write_text("network:\n  name: mobilenet025\n")
    (folder / "faces.csv").write_text("file,age,gender\na.jpg,3,f\n")
    (folder / "mine.json").write_text('{"model": "t", "files": 3, "faces": []}\n')
    (folder / "list.json").write_text("[1, 2]\n")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "page.html").write_text("<!doctype html><title>mine</title>")
    write_json(folder / "card.json", {"format": 1, "name": "m", "files": {}})
    return sorted(path for path in folder.iterdir())


@pytest.mark.parametrize(
    "kind",
    [PREDICTIONS, FACES_TABLE, METRICS, DEPLOY_CHECK, SUMMARY, MARKED_IMAGE, ANNOTATIONS],
    ids=lambda kind: kind.name,
)
def test_no_kind_of_result_replaces_a_file_of_a_user(tmp_path, kind):
    for path in make_others(tmp_path):
        refuse(f"exists and is not {kind.name}", path, kind, option="--out")


def test_a_result_of_the_same_kind_and_an_empty_file_are_replaced(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "predictions").write_text(json.dumps(to_json("a.jpg", (1, 2), "ok", [])) + "\n{}\n")
    (tmp_path / "metrics").write_text(json.dumps({"model": 1, "runtime": 2, "data": 3, "bad_records": []}))
    with open(tmp_path / "table", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerow(COLUMNS)
    (tmp_path / "label.txt").write_text("# a/b.jpg\n1 2 3 4\n1 2 3 4 5 5 0.0 -1 -1 -1\n# c.jpg\n")
    for name, kind in (
        *(("empty", kind) for kind in (PREDICTIONS, MARKED_IMAGE, SUMMARY)),
        *(("predictions", PREDICTIONS), ("metrics", METRICS), ("table", FACES_TABLE), ("label.txt", ANNOTATIONS)),
    ):
        check_results([Result("--out", tmp_path / name, kind)])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_marked_image_is_recognised_and_has_the_same_pixels(tmp_path, suffix):
    image = np.random.default_rng(5).integers(0, 256, (30, 40, 3), np.uint8)
    content = cv2.imencode(suffix, image)[1].tobytes()
    for name, bytes_ in (("plain", content), ("marked", mark_image(content))):
        (tmp_path / name).write_bytes(bytes_)
    assert is_marked(tmp_path / "marked") and not is_marked(tmp_path / "plain")
    pixels = [cv2.imread(str(tmp_path / name)) for name in ("plain", "marked")]
    assert (pixels[0] == pixels[1]).all()
    assert not is_marked(tmp_path) and not is_marked(tmp_path / "gone")


def test_a_path_that_cannot_be_written_is_named_before_the_work(tmp_path):
    (tmp_path / "file").write_text("precious")
    refuse("is a folder", tmp_path)
    refuse("file is not a folder", tmp_path / "file" / "x")
    refuse("is not a folder", tmp_path / "file", FOLDER, option="--save")
    refuse("is not a folder", tmp_path / "file" / "x", FOLDER, option="--save")
    refuse("is not a folder", Path(os.devnull), FOLDER, option="--save")
    long = tmp_path / ("n" * 300)
    for kind in (PREDICTIONS, FOLDER):
        with pytest.raises(AgedgeError, match="^--out .*nnn.*: File name too long"):
            check_results([Result("--out", long, kind)])
    check_results([Result("--out", tmp_path / "a" / "b" / "c", FOLDER)])


def test_none_of_the_four_files_of_a_record_file_is_overwritten(tmp_path):
    with RecordWriter(tmp_path / "all.rec") as writer:
        writer.write(exact(1, 30), encode(np.full((20, 20, 3), 90, np.uint8)))
    check_results(record_results("--out", tmp_path / "all.rec"))  # a pack replaces a pack
    for name, content in (("set.csv", "file,age\n"), ("set.json", '{"mine": 1}'), ("set.idx", "x\n"), ("set.rec", "x")):
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match=f"{name}: exists and is not (the|a) .* ?record file"):
            check_results(record_results("--out", tmp_path / "set.rec"))
        (tmp_path / name).unlink()
    (tmp_path / "dropped.csv").write_text("name,why\n")
    with pytest.raises(UsageError, match="dropped.csv: exists and is not a table of dropped rows"):
        check_results(split_results("--out", tmp_path, ["train"]))
    # a JSON beside a .rec without one would be read as its JSON
    with pytest.raises(UsageError, match="reads this file"):
        check_results([Result("--json", tmp_path / "old.json", METRICS)], record_inputs([tmp_path / "old.rec"]))


def test_models_are_replaced_only_by_themselves(tmp_path):
    stage, out = tmp_path / "stage", tmp_path / "out"
    for folder, name in ((stage, "m"), (out, "m")):
        folder.mkdir()
        write_json(folder / "card.json", {"format": 1, "name": name, "files": {"onnx": {"model": "m.onnx"}}})
        (folder / "m.onnx").write_text(folder.name)
    check_model_folder(out, stage, ["m.onnx"])
    with pytest.raises(UsageError, match="m.onnx: the same command reads this file"):
        check_model_folder(out, stage, ["m.onnx"], [out / "m.onnx"])
    (out / "m.params").write_text("mine")
    (stage / "m.params").write_text("new")
    with pytest.raises(UsageError, match="m.params: exists and is not of this model"):
        check_model_folder(out, stage, ["m.onnx", "m.params"])
    (stage / "m.params").write_text("mine")
    check_model_folder(out, stage, ["m.onnx", "m.params"], [out / "m.params"])
    write_json(out / "card.json", {"format": 1, "name": "other", "files": {}})
    with pytest.raises(UsageError, match="out: holds another model, 'other'"):
        check_model_folder(out, stage, [])
    (out / "card.json").write_text("my notes")
    with pytest.raises(UsageError, match="card.json: exists and is not a model card"):
        check_model_folder(out, stage, [])
    assert set(model_inputs(stage)) == set(stage.iterdir())
    assert [path.name for path in model_inputs("a/m,7")] == ["m-symbol.json", "m-0007.params", "card.json"]


def test_a_stream_is_written_line_by_line_and_keeps_the_previous_file_until_then(tmp_path):
    path = tmp_path / "new" / "f.jsonl"
    path.parent.mkdir()
    path.write_text("previous\n")
    with ResultStream(path) as stream:
        assert path.read_text() == "previous\n"
        for count in (1, 2):
            stream.write("\udcffé\n")
            assert path.read_bytes() == "\\udcffé\n".encode() * count
    with ResultStream(tmp_path / "b" / "t.csv", mark=True) as stream:
        stream.write("a\r\n")
        stream.write("b\r\n")
    assert (tmp_path / "b" / "t.csv").read_bytes() == b"\xef\xbb\xbfa\r\nb\r\n"
    with pytest.raises(OSError) as caught, ResultStream(tmp_path) as stream:
        stream.write("x\n")
    assert caught.value.filename == str(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full does not exist")
def test_a_full_disk_names_the_stream():
    with pytest.raises(OSError) as caught, ResultStream("/dev/full") as stream:
        stream.write("x\n")
    assert (caught.value.filename, caught.value.errno) == ("/dev/full", 28)


def test_a_full_disk_leaves_whole_lines(tmp_path):
    code = (
        "import resource, signal; from agedge.results.stream import ResultStream\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (25, 25))\n"
        f"stream = ResultStream({str(tmp_path / 'f')!r})\n"
        "for _ in range(9): stream.write('0123456789\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and f"File too large: '{tmp_path / 'f'}'" in done.stderr
    assert (tmp_path / "f").read_text() == "0123456789\n" * 2


def test_shipped_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped("models/mobilenet025") == str(ROOT / "models" / "mobilenet025")
    for other in ("models/mine", "models/../test.py", "src/agedge", "mobilenet025", ""):
        assert find_shipped(other) == other
    (tmp_path / "models" / "mobilenet025").mkdir(parents=True)
    assert find_shipped("models/mobilenet025") == "models/mobilenet025"  # a user's own
