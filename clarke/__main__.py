"""The command line: `clarke study`, `clarke audit`, `clarke chambers`; also `python -m clarke`.

What the user got wrong is one line on standard error and exit code 2; a defect of ours keeps its traceback.
"""

import argparse
import importlib
import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np

import clarke

from .arrangements import TooManyChambers, chambers
from .audit import check_ad
from .importers.nnet import from_nnet
from .kinks import TOL
from .models import digits
from .primitives import HiddenBranch, UnsupportedPrimitive
from .projection import ProjectionStopped
from .regions import vertex
from .report import audit_dict, study

WRONG = (
    ValueError,
    HiddenBranch,
    UnsupportedPrimitive,
    OSError,
    ImportError,
    MemoryError,
    TooManyChambers,
    ProjectionStopped,
)


def main(argv=None) -> int:
    """Run one command; 0, or 2 with a line on stderr. SystemExit from argparse, for --help and unknown options."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except WRONG as error:
        said = " ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
        print(f"clarke: {' '.join(said.split())}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="clarke", description="Limiting derivatives of piecewise-smooth functions.")
    parser.add_argument("--version", action="version", version=f"clarke {clarke.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, text):
        added = commands.add_parser(name, help=text.lower(), description=f"{text}.")
        added.add_argument("--json", action="store_true", help="print JSON, and nothing else")
        added.set_defaults(run=run)
        return added

    a = command("study", _study, "Everything about one point of one function")
    a.add_argument("model", nargs="?", metavar="MODEL", help="FILE.nnet or module:function; default: digits")
    _at(a, "default: 0 for digits, near 0 for FILE.nnet")
    a.add_argument("--units", type=int, metavar="K", help="of FILE.nnet, go where K units vanish; default: all inputs")
    a.add_argument("--output", metavar="FILE", help="where the picture goes; default study.png, with --json none")
    a.add_argument("--no-plot", action="store_true", help="draw nothing")
    _tol(a)
    a = command("audit", _audit, "Whether a framework's derivative at a point is true")
    a.add_argument("function", metavar="module:function", help="of one flat array")
    _at(a, "required", required=True)
    a.add_argument("--derivative", choices=("hessian", "gradient"), default="hessian")
    a.add_argument("--backend", choices=("autograd", "torch", "jax"), default="autograd")
    _tol(a)
    a = command("chambers", _chambers, "Count the chambers of a central hyperplane arrangement")
    a.add_argument("file", metavar="FILE", help="normals (k, n), one a row: .npy, .csv or .json")
    return parser


def _at(parser, default, **options):
    text = f"numbers with commas between them, or a .npy file; {default}; write --at=-1,2 if it begins with a minus"
    parser.add_argument("--at", metavar="POINT", help=text, **options)


def _tol(parser):
    parser.add_argument("--tol", type=float, default=TOL, help="a guard vanishes if |guard| <= tol * its scale")


# ---------------------------------------------------------------- commands


def _study(args):
    if args.no_plot and args.output:
        raise ValueError("--no-plot and --output contradict each other; leave one out")
    picture = None if args.no_plot or (args.json and not args.output) else args.output or "study.png"
    if picture:
        from . import plots  # noqa: F401  says now, not after the work, that matplotlib is missing
    function, x, name, output = _question(args)
    found = study(function, x, output=output, tol=args.tol, name=name)
    print(_json(found.to_dict()) if args.json else found)
    if picture:
        found.plot().savefig(picture, dpi=300)
        if not args.json:
            print(f"\npicture         {picture}")


def _question(args):
    """(function, point, name, output) that the model and --at stand for."""
    model = args.model
    at = None if args.at is None else _point(args.at)
    if args.units is not None and (at is not None or model is None or not model.endswith(".nnet")):
        raise ValueError("--units chooses the point of a FILE.nnet; it goes with neither --at nor another model")
    if model is None:
        network = digits()
        loss, logits = network.function(wrt="x"), network.function(wrt="x", output="y")
        return loss, network.point("x") if at is None else at, "digits network, loss (output: logits)", logits
    if model.endswith(".nnet"):
        network = from_nnet(model)
        function = network.function(wrt="x", output="y")
        start = network.point("x")
        x = vertex(function, start, units=args.units, tol=args.tol) if at is None else at
        return function, x, Path(model).stem, None
    function = _imported(model)
    if at is None:
        raise ValueError(f"{model} needs a point: --at followed by numbers with commas between them, or a .npy file")
    return function, at, model, None


def _audit(args):
    function, x = _imported(args.function), _point(args.at)
    found = check_ad(function, x, derivative=args.derivative, backend=args.backend, tol=args.tol)
    print(_json(audit_dict(found)) if args.json else found)


def _chambers(args):
    found = chambers(_normals(Path(args.file)))
    if args.json:
        print(_json({"chambers": len(found), "complete": found.complete, "reason": found.reason}))
    else:
        print(f"{len(found)} chambers\ncomplete: {'yes' if found.complete else 'no'}, {found.reason}")


# ---------------------------------------------------------------- what is named on the command line


def _point(text):
    if text.endswith(".npy"):
        return np.load(text, allow_pickle=False)
    try:
        return np.array([float(number) for number in text.split(",")])
    except ValueError:
        raise ValueError(f"--at takes numbers with commas between them, or a .npy file; got {text!r}") from None


def _imported(name):
    """The function that module:function names; the current directory comes first."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"{name!r} is no model: FILE.nnet or module:function is")
    sys.path.insert(0, os.getcwd())
    try:
        importlib.invalidate_caches()
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the user's module raises, the line should name the module
        raise ImportError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise ValueError(f"{name} is no function but {type(found).__name__}")
    return found


def _normals(path):
    readers = {
        ".npy": lambda: np.load(path, allow_pickle=False),
        ".csv": lambda: np.loadtxt(path, delimiter=",", ndmin=2),
        ".json": lambda: np.array(json.loads(path.read_text(encoding="utf-8"))),
    }
    if path.suffix not in readers:
        raise ValueError(f"{path}: normals are read from {', '.join(readers)} files; got {path.suffix or 'no suffix'}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's of an empty file
        try:
            found = readers[path.suffix]()
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: {error}") from error
    if found.size == 0:
        raise ValueError(f"{path} holds no normals: one a row is expected")
    return found


def _json(value):
    return json.dumps(value, indent=2, allow_nan=False)


if __name__ == "__main__":
    sys.exit(main())
