"""The command line prints what the functions return, and answers every mistake in one line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strategies import TINY_NNET

import clarke
from clarke.__main__ import _json, main
from clarke.importers.nnet import from_nnet
from clarke.shards import read_chambers

ACAS = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu" / "ACASXU_experimental_v2a_1_1.nnet"

MODEL = """
import autograd.numpy as np

def half(x):
    return np.maximum(x[0], 0) ** 2 + x[1] ** 2

def split(x):
    return (np.maximum(x[0], 0) ** 2 + np.minimum(x[0], 0) ** 2) / 2

def hidden(x):
    return x[0] if x[0] > 0 else 2 * x[0]

class inner:
    deep = staticmethod(half)

def short(x):
    return x[3]

def divided(x):
    return 1 / 0

def tensors(x):
    raise TypeError("argument 'input' must be Tensor, not numpy.ndarray")

def abs_3(x):
    return sum(np.abs(x[i]) for i in range(3))

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory, with a model and a network in it."""
    (tmp_path / "commandline_model.py").write_text(MODEL)
    (tmp_path / "commandline_broken.py").write_text("1 / 0\n")
    (tmp_path / "tiny.nnet").write_text(TINY_NNET)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("commandline_model", "commandline_broken"):
        sys.modules.pop(name, None)


def printed(capsys, *argv):
    """The JSON that a successful command prints, and nothing else."""
    assert main([*argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


# ---------------------------------------------------------------- study


def test_the_study_of_digits_has_24_kinks_and_560_patterns(here, capsys):
    data = printed(capsys, "study")
    assert data["kinks_by_unit"] == {"h1": 12, "h2": 12}
    assert len(data["kinks"]) == 24
    assert data["patterns"]["count"] == len(data["patterns"]["list"]) == 560
    assert data["patterns"]["complete"] is True
    assert data["hessians"]["shape"] == [3, 3]
    assert data["jacobians"]["shape"] == [10, 3]
    assert list(here.glob("*.png")) == []  # with --json only where asked


def test_the_study_of_digits_prints_a_report_and_draws_a_picture(here, capsys):
    assert main(["study"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "560 of 2^24 = 16,777,216" in out
    assert out.splitlines()[-1].split() == ["picture", "study.png"]
    assert (here / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_goes_where_it_is_wanted_or_nowhere(here, capsys):
    assert main(["study", "--no-plot", "--at", "1,0,0"]) == 0
    out = capsys.readouterr().out
    assert "picture" not in out
    assert "x in R^3: (1, 0, 0)" in out
    assert list(here.glob("*.png")) == []
    printed(capsys, "study", "commandline_model:half", "--at", "0,0", "--output", "drawn.pdf")
    assert (here / "drawn.pdf").read_bytes().startswith(b"%PDF")


def test_a_nnet_file_is_studied_where_its_units_vanish(here, capsys):
    data = printed(capsys, "study", "tiny.nnet")
    assert data["name"] == "tiny"
    assert len(data["kinks"]) == 2  # as many as inputs
    assert data["gradients"]["shape"] == [2]  # one output is a scalar
    hidden = np.array(from_nnet("tiny.nnet").at(data["x"], "x").value("z1"))
    assert np.sum(np.abs(hidden) < 1e-12) == 2
    assert len(printed(capsys, "study", "tiny.nnet", "--units", "1")["kinks"]) == 1


def test_a_nnet_file_is_studied_exactly_where_asked(here, capsys):
    np.save("point.npy", [0.25, 0.25])
    for point in ("0.25,0.25", "point.npy"):
        data = printed(capsys, "study", "tiny.nnet", "--at", point)
        assert data["x"] == [0.25, 0.25]
        assert [kink["name"] for kink in data["kinks"]] == ["h1[0, 0]"]


@pytest.mark.skipif(not ACAS.exists(), reason=f"the ACAS Xu networks are not at {ACAS.parent}")
def test_a_collision_avoidance_network_is_studied_at_a_vertex(here, capsys):
    data = printed(capsys, "study", str(ACAS))
    assert len(data["kinks"]) == 5
    assert data["jacobians"]["shape"] == [5, 5]
    assert data["patterns"]["complete"] is True


def test_a_function_of_the_current_directory_is_studied(here, capsys):
    data = printed(capsys, "study", "commandline_model:half", "--at", "0,-1")
    assert data["x"] == [0, -1]
    assert data["hessians"]["values"] == [[[0, 0], [0, 2]], [[2, 0], [0, 2]]]
    assert data["c11"] is True
    assert printed(capsys, "study", "commandline_model:inner.deep", "--at", "-1,2")["x"] == [-1, 2]
    assert printed(capsys, "study", "commandline_model:half", "--at=-.5,2")["x"] == [-0.5, 2]
    assert str(here) not in sys.path


def test_the_tolerance_reaches_the_kinks(here, capsys):
    near = ["study", "tiny.nnet", "--at", "0.25,0.2501"]  # guard -1e-4 of terms 0.25 and 0.2501
    assert len(printed(capsys, *near)["kinks"]) == 0
    assert [kink["name"] for kink in printed(capsys, *near, "--tol", "1e-3")["kinks"]] == ["h1[0, 0]"]


# ---------------------------------------------------------------- audit and chambers


def test_an_audit_says_what_check_ad_says(here, capsys):
    data = printed(capsys, "audit", "commandline_model:split", "--at", "0")
    assert (data["inside"], data["is_element"], data["distance"]) == (False, False, pytest.approx(0.5))
    assert data["value"] == [[0.5]]
    assert printed(capsys, "audit", "commandline_model:split", "--at", "0", "--derivative", "gradient")["inside"]
    assert main(["audit", "commandline_model:split", "--at", "0"]) == 0
    assert "outside, at distance 0.5" in capsys.readouterr().out


def test_chambers_are_counted_from_three_kinds_of_file(here, capsys):
    normals = np.array([[1, 0], [0, 1], [1, 1]])
    np.save("normals.npy", normals)
    np.savetxt("normals.csv", normals, delimiter=",")
    Path("normals.json").write_text(json.dumps(normals.tolist()))
    for name in ("normals.npy", "normals.csv", "normals.json"):
        data = printed(capsys, "chambers", name)
        assert data["chambers"] == 6
        assert data["complete"] is True
        assert data["reason"]
        assert main(["chambers", name]) == 0
        assert capsys.readouterr().out.startswith("6 chambers\ncomplete: yes, ")


def test_offsets_make_an_arrangement_affine(here, capsys):
    np.save("normals.npy", [[1, 0], [0, 1], [1, 1]])
    np.savetxt("offsets.csv", [0, 0, 1], delimiter=",")
    assert printed(capsys, "chambers", "normals.npy", "--offsets", "offsets.csv")["chambers"] == 7
    counted = printed(capsys, "chambers", "normals.npy", "--offsets", "offsets.csv", "--count")
    assert counted == {"chambers": 7, "characteristic polynomial": [1, -3, 3]}
    assert main(["chambers", "normals.npy", "--count"]) == 0
    assert capsys.readouterr().out == "6 chambers\ncharacteristic polynomial: 1 -3 2\n"


def test_chambers_are_written_in_shards_and_the_same_command_goes_on(here, capsys):
    np.save("normals.npy", np.eye(5))
    for _ in range(2):
        data = printed(capsys, "chambers", "normals.npy", "--out", "shards")
        assert data["chambers"] == sum(len(shard) for shard in read_chambers("shards")) == 32
        assert data["complete"] is True
        Path("shards/shard-000000.npz").unlink()
    assert main(["chambers", "normals.npy", "--out", "shards"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("32 chambers\ncomplete: yes, ")
    assert said.out.endswith("written to shards: 1 shards\n")
    assert "shards: 100%" in said.err
    assert main(["chambers", "normals.npy", "--out", "shards", "--exact"]) == 2
    assert "exact changed since they were written" in " ".join(capsys.readouterr().err.split())


def test_chambers_are_counted_exactly_if_asked(here, capsys):
    Path("thin.json").write_text("[[1, 0], [1, 1e-12], [0, 1]]")
    assert printed(capsys, "chambers", "thin.json", "--exact", "--max-chambers", "6")["chambers"] == 6
    assert "as many as the proved count" in printed(capsys, "chambers", "thin.json", "--exact")["reason"]


def test_json_has_a_list_of_scalars_on_one_line(here, capsys):
    data = {"a": [1, 2.5, None], "b": [[1, 2], ["[3,", "4\n"]], "c": {}, "d": [], "e": {"f": [{"g": True}]}}
    assert json.loads(_json(data)) == data
    assert _json(data).splitlines()[:4] == ["{", '  "a": [1, 2.5, null],', '  "b": [', "    [1, 2],"]
    assert main(["study", "commandline_model:half", "--at", "0,-1", "--json"]) == 0
    assert '\n  "x": [0.0, -1.0],\n' in capsys.readouterr().out


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("study commandline_model:half", "commandline_model:half needs a point: --at followed by numbers"),
        ("study commandline_model:half --at 1,two", "--at takes numbers with commas between them, or a .npy file"),
        ("study commandline_model:half --at 1,nan", "--at 1,nan: x must be finite; entry 1 is nan"),
        ("study --at 1,2", "x has 2 entries, the function was recorded with 3"),
        ("study commandline_model:half --at missing.npy", "--at missing.npy: No such file or directory"),
        ("study commandline_model:half --at square.npy", "--at square.npy: x must"),
        ("study commandline_model:half --at objects.npy", "allow_pickle=False"),
        ("study commandline_model:hidden --at 1", "a comparison (greater) of a traced value would hide a branch"),
        ("study commandline_model:absent --at 1", "commandline_model:absent cannot be imported: AttributeError"),
        (
            "study commandline_model:number --at 1",
            "commandline_model:number is an int; a function of one flat array is n",
        ),
        ("study commandline_broken:f --at 1", "commandline_broken:f cannot be imported: ZeroDivisionError"),
        ("study no_such_module:f --at 1", "no_such_module:f cannot be imported: ModuleNotFoundError"),
        ("minimize nothing", "'nothing' is no problem: clarke minimize lists the classics"),
        ("minimize commandline_model:half", "commandline_model:half needs a start: --at"),
        ("minimize commandline_model:divided --at 1", "commandline_model:divided fails at the point"),
        ("study model.h5 --at 1", "'model.h5' is no model: FILE.nnet, FILE.onnx or module:function is"),
        ("study model.onnx --at 1", "model.onnx"),
        ("study --html nowhere/page.html", "--html nowhere/page.html: there is no directory nowhere"),
        ("study --html .", "--html .: this is a directory; name a file in it"),
        ("study --output pictures.png", "--output pictures.png: this is a directory; name a file in it"),
        ("chambers plane.json --out flat.npy", "--out flat.npy: this is no directory; shards are files of a directory"),
        ("claims --pages .", "--pages .: the pages go beside references.bib, and there is none"),
        ("audit commandline_model:tensors --at 0 --backend torch", "and written with autograd.numpy for any backend"),
        ("study missing.nnet", "missing.nnet: cannot be read"),
        ("study broken.nnet", "broken.nnet, line 1: expected 4 counts, found 1"),
        ("study tiny.nnet --units 3", "units"),
        ("study tiny.nnet --units 2 --at 0,0", "--units chooses the point of a FILE;"),
        ("study --units 2", "--units chooses the point of a FILE;"),
        ("study --no-plot --output a.png", "--no-plot and --output contradict each other"),
        ("study --tol 2", "tol is relative to the scale of a guard"),
        ("study commandline_model:half --at 0,0 --output no/folder.png", "--output no/folder.png: there is no"),
        ("study commandline_model:half --at 0,0 --output picture.xyz", "--output picture.xyz: pictures are "),
        ("study --output picture", "--output picture: pictures are "),
        ("study commandline_model:short --at 0,0", "commandline_model:short fails at the point: IndexError: index 3"),
        ("audit commandline_model:divided --at 0", "commandline_model:divided fails at the point: ZeroDivisionError"),
        ("study commandline_model:abs_3 --at 0,0,0 --max-chambers 7", "more than max_chambers=7"),
        ("audit commandline_model:abs_3 --at 0,0,0 --max-chambers 7", "more than max_chambers=7"),
        ("chambers plane.json --max-chambers 5", "more than max_chambers=5"),
        ("chambers plane.json --count --exact", "--count lists no chambers and is always exact"),
        ("chambers plane.json --offsets missing.csv", "clarke: missing.csv: No such file or directory"),
        ("chambers plane.json --offsets empty.csv", "empty.csv: no offsets"),
        ("chambers plane.json --offsets plane.json", "plane.json: offsets must be"),
        ("audit commandline_model:half --at 1,2,", "--at takes numbers"),
        ("audit commandline_model:hidden --at 1", "a comparison (greater) of a traced value would hide a branch"),
        ("audit commandline_model --at 1", "'commandline_model' is no function: audit takes module:function only"),
        ("audit tiny.nnet --at 0,0", "'tiny.nnet' is no function: audit takes module:function only"),
        ("chambers missing.csv", "clarke: missing.csv: No such file or directory"),
        ("chambers missing.npy", "clarke: missing.npy: No such file or directory"),
        ("chambers blanks.csv", "blanks.csv: could not convert string '1 2' to float64"),
        ("chambers blanks.csv", "commas between the numbers"),
        ("chambers dict.json", "clarke: dict.json: "),
        ("chambers flat.npy", "clarke: flat.npy: normals must be a matrix"),
        ("chambers words.csv", "words.csv: could not convert string"),
        ("chambers empty.csv", "empty.csv: no normals"),
        ("chambers ragged.json", "ragged.json: "),
        ("chambers broken.json", "broken.json: Expecting value"),
        ("chambers objects.npy", "objects.npy: "),
        ("chambers normals.txt", "normals.txt: arrays are read from .npy, .csv, .json files; got .txt"),
        ("chambers normals", "got no suffix"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(here, capsys, argv, said):
    np.save("objects.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    np.save("flat.npy", [1, 2])
    Path("pictures.png").mkdir()
    np.save("square.npy", np.eye(2))
    for name, text in {
        "broken.nnet": "no numbers\n",
        "words.csv": "one,two\n",
        "empty.csv": "",
        "ragged.json": "[[1, 2], [3]]",
        "broken.json": "?",
        "blanks.csv": "1 2\n3 4\n",
        "dict.json": '{"normals": [[1, 2]]}',
        "plane.json": "[[1, 0], [0, 1], [1, 1]]",
    }.items():
        Path(name).write_text(text)
    assert main(argv.split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith("clarke: ")
    assert err.count("\n") == 1
    assert said in err
    assert "Traceback" not in err
    assert out == ""


def test_too_many_chambers_is_one_line(here, capsys, monkeypatch):
    def refuse(normals, **options):
        raise clarke.TooManyChambers(7, 6)

    monkeypatch.setattr("clarke.__main__.chambers", refuse)
    np.save("normals.npy", np.eye(2))
    assert main(["chambers", "normals.npy"]) == 2
    assert capsys.readouterr().err.startswith("clarke: at least 7 chambers")


def test_a_missing_matplotlib_is_said_before_the_work_with_the_extra(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "clarke.plots", raising=False)
    monkeypatch.delattr(clarke, "plots", raising=False)
    assert main(["study"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "clarke: pictures need matplotlib: pip install 'clarke[plots]'\n"
    assert main(["study", "commandline_model:half", "--at", "0,0", "--no-plot"]) == 0


def test_a_defect_of_ours_keeps_its_traceback(here, monkeypatch):
    def broken(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("clarke.__main__.study", broken)
    with pytest.raises(ZeroDivisionError):
        main(["study", "--no-plot"])


@pytest.mark.parametrize(
    "argv", [[], ["dance"], ["study", "--size", "3"], ["audit", "m:f"], ["study", "--max-chambers", "1"]]
)
def test_argparse_refuses_what_it_does_not_know(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: clarke" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"clarke {clarke.__version__}\n"


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "clarke", "study", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 1


def test_python_m_clarke_is_the_same_program():
    command = [sys.executable, "-m", "clarke"]
    done = subprocess.run([*command, "study", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "clarke: 'nothing' is no model: FILE.nnet, FILE.onnx or module:function is\n"


def onnx_file(path, arrays, nodes, outputs):
    """A file of ReLU layers of x (1, 2)."""
    onnx = pytest.importorskip("onnx")
    helper, held = onnx.helper, [onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    x = [helper.make_tensor_value_info("x", 1, (1, 2))]
    y = [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs.items()]
    made = [helper.make_node(kind, inputs.split(), [out]) for kind, inputs, out in nodes]
    graph = helper.make_graph(made, "graph", x, y, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def test_an_onnx_file_is_studied_at_a_vertex_or_where_one_says(here, capsys):
    W, V = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1.0], [2.0]])
    layers_ = [("MatMul", "x W", "z"), ("Relu", "z", "h"), ("MatMul", "h V", "y")]
    onnx_file(here / "net.onnx", {"W": W, "V": V}, layers_, {"y": (1, 1)})
    report = printed(capsys, "study", "net.onnx", "--at", "0,0", "--json")
    assert report["patterns"]["count"] == 4
    assert sorted(report["gradients"]["values"]) == [[0.0, 0.0], [1.0, 1.0], [2.0, -2.0], [3.0, -1.0]]
    report = printed(capsys, "study", "net.onnx", "--json")
    assert len(report["kinks"]) == 2
    onnx_file(here / "two.onnx", {"W": W}, layers_[:2], {"z": (1, 2), "h": (1, 2)})
    assert printed(capsys, "study", "two.onnx", "--at", "0,0", "--json")["patterns"]["count"] == 4
    onnx_file(
        here / "ends.onnx", {"W": W}, [*layers_[:1], ("Relu", "z", "h"), ("Tanh", "z", "t")], {"h": (1, 2), "t": (1, 2)}
    )
    assert main(["study", "ends.onnx", "--at", "0,0", "--json"]) == 2
    assert "ends.onnx has 2 outputs, h, t" in capsys.readouterr().err


def test_a_study_writes_its_page(here, capsys):
    assert main(["study", "commandline_model:half", "--at", "0,0", "--no-plot", "--html", "page.html"]) == 0
    assert "page            page.html" in capsys.readouterr().out
    assert "<svg" in (here / "page.html").read_text()


def test_a_classic_is_minimized_from_its_published_start_or_another(here, capsys):
    listed = printed(capsys, "minimize", "--json")
    assert {"name": "CB2", "variables": 2, "optimum": 1.9522244938706} in listed
    for argv in (["minimize", "cb2", "--json"], ["minimize", "CB2", "--at", "2,0.5", "--json"]):
        found = printed(capsys, *argv)
        assert found["status"] == 0
        assert abs(found["fun"] - found["optimum"]) < 1e-12
    assert main(["minimize", "LQ"]) == 0
    assert "stationarity" in capsys.readouterr().out
    assert main(["minimize"]) == 0
    assert "Rosen-Suzuki" in capsys.readouterr().out


def test_a_function_of_ones_own_is_minimized(here, capsys):
    found = printed(capsys, "minimize", "commandline_model:half", "--at", "1,1", "--json")
    assert found["status"] == 0
    assert found["optimum"] is None
    assert found["fun"] < 1e-20
    assert printed(capsys, "minimize", "LQ", "--maxiter", "1", "--json")["status"] == 1
