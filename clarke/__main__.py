"""The command line: `clarke study`, `audit`, `minimize`, `chambers`, `claims`; also `python -m clarke`.

What the user got wrong is one line on standard error and exit code 2; a defect of ours keeps its traceback.
"""

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

import clarke

from . import classics
from .arrangements import TooManyChambers, chambers
from .audit import check_ad
from .claims import VERDICTS, ledger, verify
from .claims.pages import claim_text, claims_page, what_holds_page
from .claims.papers import PAPERS, Ledger
from .claims.statements import plain
from .counting import characteristic_polynomial
from .fan import MAX_CHAMBERS
from .graph import point
from .importers import load
from .kinks import TOL
from .models import digits
from .primitives import HiddenBranch, UnsupportedPrimitive
from .projection import ProjectionStopped
from .readers import read_array
from .report import audit_dict, study
from .semismooth import minimize
from .shards import read_chambers, write_chambers
from .vertices import vertex

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with a line on stderr, or 1 if nobody reads what is printed.

    SystemExit from argparse, for --help and unknown options.
    """
    args = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 1
    except WRONG as error:
        said = " ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
        print(f"clarke: {' '.join(said.split())}", file=sys.stderr)
        return 2
    return 0


def _joined(argv):
    """--at -1,2 as --at=-1,2: argparse takes -1,2 for an option."""
    joined = []
    for token in argv:
        if joined and joined[-1] == "--at" and re.match(r"-\.?\d", token):
            joined[-1] = f"--at={token}"
        else:
            joined.append(token)
    return joined


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
    a.add_argument("model", nargs="?", metavar="MODEL", help="FILE.nnet, FILE.onnx or module:function; default: digits")
    _at(a, "default: 0 for digits, a vertex near 0 for a FILE")
    a.add_argument("--units", type=int, metavar="K", help="of a FILE, go where K units vanish; default: all inputs")
    a.add_argument("--output", metavar="FILE", help="where the picture goes; default study.png, with --json none")
    a.add_argument("--html", metavar="FILE", help="also write one self-contained page, with a slice that answers")
    a.add_argument("--no-plot", action="store_true", help="draw nothing")
    _tol(a)
    _limit(a, MAX_CHAMBERS)
    a = command("audit", _audit, "Whether a framework's derivative at a point is true")
    a.add_argument("function", metavar="module:function", help="of one flat array")
    _at(a, "required", required=True)
    a.add_argument("--derivative", choices=("hessian", "gradient"), default="hessian")
    text = "what differentiates the function, which is written with autograd.numpy for any of them; default: autograd"
    a.add_argument("--backend", choices=("autograd", "torch", "jax"), default="autograd", help=text)
    _tol(a)
    _limit(a, MAX_CHAMBERS)
    a = command("minimize", _minimize, "A local minimizer of a piecewise-smooth function")
    a.add_argument(
        "problem", nargs="?", metavar="PROBLEM", help="a classic by name or module:function; default: list them"
    )
    _at(a, "where to start; required with module:function, else the published start")
    a.add_argument("--maxiter", type=int, default=200, metavar="N", help="at most so many steps; default 200")
    a = command("chambers", _chambers, "The chambers of a hyperplane arrangement")
    a.add_argument("file", metavar="FILE", help="normals (k, n), one a row: .npy, .csv or .json")
    a.add_argument("--offsets", metavar="FILE", help="offsets (k,) of the hyperplanes v . x = t; default: all 0")
    a.add_argument("--count", action="store_true", help="only their number, proved, and the characteristic polynomial")
    a.add_argument("--out", metavar="DIR", help="write them there in shards; run again to go on after an interruption")
    a.add_argument("--exact", action="store_true", help="compute in integers; floats count at their exact values")
    _limit(a, 1_000_000)
    a = command("claims", _claims, "The claims of the papers, each with its verdict and counterexample")
    a.add_argument("show", nargs="*", metavar="show ID", help="work the claims out with numbers")
    a.add_argument("--paper", choices=tuple(PAPERS), help="only of this paper")
    a.add_argument("--verdict", type=str.upper, choices=tuple(VERDICTS), help="only of this verdict")
    a.add_argument("--id", help="only this one")
    a.add_argument("--check", action="store_true", help="evaluate every counterexample and a sample of every domain")
    a.add_argument("--cases", type=_at_least_2, default=20, metavar="N", help="cases of each domain; default 20")
    a.add_argument("--pages", metavar="DIR", help="write claims.md and what-holds.md there, beside references.bib")
    return parser


def _at(parser, default, **options):
    text = f"numbers with commas between them, or a .npy file; {default}"
    parser.add_argument("--at", metavar="POINT", help=text, **options)


def _tol(parser):
    parser.add_argument("--tol", type=float, default=TOL, help="a guard vanishes if |guard| <= tol * its scale")


def _limit(parser, default):
    text = f"stop with an error beyond so many; default {default:,}"
    parser.add_argument("--max-chambers", type=_at_least_2, default=default, metavar="N", help=text)


def _at_least_2(text):
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"a whole number, at least 2, is needed; got {text!r}")
    return int(text)


# ---------------------------------------------------------------- commands


def _study(args):
    if args.no_plot and args.output:
        raise ValueError("--no-plot and --output contradict each other; leave one out")
    picture = None if args.no_plot or (args.json and not args.output) else args.output or "study.png"
    if picture:
        _require_drawable(Path(picture))
    if args.html and not Path(args.html).absolute().parent.is_dir():
        raise ValueError(f"--html {args.html}: there is no directory {Path(args.html).parent}")
    if args.html and Path(args.html).is_dir():
        raise ValueError(f"--html {args.html}: this is a directory; name a file in it")
    function, x, name, output = _question(args)
    found = study(function, x, output=output, tol=args.tol, name=name, max_chambers=args.max_chambers)
    print(_json(found.to_dict()) if args.json else found)
    if args.html:
        found.to_html(args.html)
        if not args.json:
            print(f"\npage            {args.html}")
    if picture:
        found.plot().savefig(picture, dpi=300)
        if not args.json:
            print(f"\npicture         {picture}")


def _require_drawable(path):
    """Say now, not after the work, that there will be no picture."""
    from . import plots  # matplotlib is an extra

    formats = plots.Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ValueError(f"--output {path}: pictures are {', '.join(formats)}; got {path.suffix or 'no suffix'}")
    if not path.parent.is_dir():
        raise ValueError(f"--output {path}: there is no directory {path.parent}")
    if path.is_dir():
        raise ValueError(f"--output {path}: this is a directory; name a file in it")


def _question(args):
    """(function, point, name, output) that the model and --at stand for."""
    model = args.model
    at = None if args.at is None else _point(args.at)
    is_file = model is not None and model.lower().endswith((".nnet", ".onnx"))
    if args.units is not None and (at is not None or not is_file):
        raise ValueError("--units chooses the point of a FILE; it goes with neither --at nor another model")
    if model is None:
        network = digits()
        loss, logits = network.function(wrt="x"), network.function(wrt="x", output="y")
        return loss, network.point("x") if at is None else at, "digits network, loss (output: logits)", logits
    if is_file:
        network = load(model)
        function = network.function(wrt=network.inputs, output=_output(network, model))
        start = network.point(network.inputs)
        x = vertex(function, start, units=args.units, tol=args.tol) if at is None else at
        return function, x, Path(model).stem, None
    function = _imported(model, "no model: FILE.nnet, FILE.onnx or module:function is")
    if at is None:
        raise ValueError(f"{model} needs a point: --at followed by numbers with commas between them, or a .npy file")
    _require_value(function, at, model)
    return function, at, model, None


def _output(network, model):
    """The one node that no other reads."""
    ends = [name for name in network.nodes if not network.dag.out_degree(name)]
    if len(ends) != 1:
        advice = "study one of them from Python: clarke.study(network.function(wrt=..., output=...), x)"
        raise ValueError(f"{model} has {len(ends)} outputs, {', '.join(ends)}; {advice}")
    return ends[0]


def _audit(args):
    function, x = _imported(args.function, "no function: audit takes module:function only"), _point(args.at)
    _require_value(function, x, args.function)
    options = {"derivative": args.derivative, "backend": args.backend}
    found = check_ad(function, x, tol=args.tol, max_chambers=args.max_chambers, **options)
    print(_json(audit_dict(found)) if args.json else found)


def _minimize(args):
    known = {problem.name.lower(): problem for problem in classics.suite()}
    if args.problem is None:
        rows = [{"name": p.name, "variables": p.start.size, "optimum": p.optimum} for p in known.values()]
        lines = [f"{row['name']:28} {row['variables']:>5} variables, optimum {row['optimum']:.10g}" for row in rows]
        print(_json(rows) if args.json else "\n".join(lines))
        return
    problem, optimum = known.get(args.problem.lower()), None
    if problem is not None:
        function, start, optimum = problem.f, problem.start, problem.optimum
    else:
        function = _imported(args.problem, "no problem: clarke minimize lists the classics, module:function is one too")
        if args.at is None:
            raise ValueError(f"{args.problem} needs a start: --at followed by numbers with commas between them")
    start = start if args.at is None else _point(args.at)
    if problem is None:
        _require_value(function, start, args.problem)
    found = minimize(function, start, maxiter=args.maxiter)
    said = {
        "x": found.x.tolist(),
        "fun": found.fun,
        "optimum": optimum,
        "stationarity": found.stationarity,
        "steps": found.nit,
        "evaluations": found.nfev,
        "status": found.status,
        "message": found.message,
    }
    if args.json:
        print(_json(said))
        return
    for name, value in said.items():
        if value is not None:
            text = (
                ", ".join(f"{entry:.10g}" for entry in value)
                if name == "x"
                else f"{value:.10g}"
                if isinstance(value, float)
                else value
            )
            print(f"{name:14} {text}")


def _chambers(args):
    if args.count and (args.out or args.exact):
        raise ValueError("--count lists no chambers and is always exact; leave out --out and --exact")
    if args.out and Path(args.out).exists() and not Path(args.out).is_dir():
        raise ValueError(f"--out {args.out}: this is no directory; shards are files of a directory of their own")
    with _about(args.file):
        normals = _array(Path(args.file), "normals")
    offsets = None
    if args.offsets:
        with _about(args.offsets):
            offsets = np.ravel(_array(Path(args.offsets), "offsets"))
    with _about(args.file):
        if args.count:
            said = _counted(normals, offsets)
        elif args.out:
            said = _written(normals, offsets, args)
        else:
            found = chambers(normals, offsets=offsets, exact=args.exact, max_chambers=args.max_chambers)
            said = {"chambers": len(found), "complete": found.complete, "reason": found.reason}
    if args.json:
        print(_json(said))
        return
    print(f"{said['chambers']} chambers")
    if "complete" in said:
        print(f"complete: {'yes' if said['complete'] else 'no'}, {said['reason']}")
    if args.count:
        print(f"characteristic polynomial: {' '.join(map(str, said['characteristic polynomial']))}")
    if args.out:
        print(f"written to {args.out}: {said['shards']} shards")


def _counted(normals, offsets):
    polynomial = characteristic_polynomial(normals, offsets=offsets)
    return {"chambers": sum(map(abs, polynomial)), "characteristic polynomial": polynomial}


def _written(normals, offsets, args):
    options = {"offsets": offsets, "exact": args.exact, "progress": not args.json}
    count, shards, reasons = write_chambers(args.out, normals, **options), 0, {}
    for shard in read_chambers(args.out):
        shards += 1
        reasons.setdefault(shard.complete, shard.reason)
    complete = False not in reasons
    return {"chambers": count, "shards": shards, "complete": complete, "reason": reasons[complete]}


# ---------------------------------------------------------------- what is named on the command line


@contextmanager
def _about(what):
    """Let what is wrong with a file or an argument begin with its name."""
    try:
        yield
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{what}: {getattr(error, 'strerror', None) or error}") from error


def _point(text):
    try:
        x = None if text.endswith(".npy") else [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"--at takes numbers with commas between them, or a .npy file; got {text!r}") from None
    with _about(f"--at {text}"):
        return point(read_array(text) if x is None else x)


def _imported(name, otherwise):
    """The function that module:function names; the current directory comes first."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"{name!r} is {otherwise}")
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
        kind = type(found).__name__
        article = "an" if kind[0] in "aeiou" else "a"
        raise ValueError(f"{name} is {article} {kind}; a function of one flat array is needed")
    return found


def _require_value(function, x, name):
    """Call the user's function once by itself: whatever it raises is not a defect of ours."""
    try:
        with np.errstate(all="ignore"):
            function(np.array(x))
    except Exception as error:
        advice = "; it is called with one flat array, and written with autograd.numpy for any backend"
        advice = advice if isinstance(error, TypeError) else ""
        raise ValueError(f"{name} fails at the point: {type(error).__name__}: {error}{advice}") from error


def _array(path, name):
    found = read_array(path)
    if found.size == 0:
        raise ValueError(f"no {name}; one a row is expected")
    return found


def _json(value, line="\n"):
    """JSON indented by 2, but a list of scalars on one line."""
    inner = f"{line}  "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(key)}: {_json(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in value):
        return f"[{inner}{f',{inner}'.join(_json(item, inner) for item in value)}{line}]"
    return json.dumps(value, allow_nan=False)


def _claims(args):
    chosen = ledger().select(paper=args.paper, verdict=args.verdict)
    wanted = [args.id] if args.id else args.show[1:]
    if args.show and (args.show[0] != "show" or not wanted):
        raise ValueError(f"clarke claims show ID, and one ID or more; got {' '.join(args.show)}")
    if args.show and args.id:
        raise ValueError("show ID and --id both name claims; leave one out")
    if args.pages and (wanted or args.paper or args.verdict or args.check or args.json):
        raise ValueError("--pages writes every claim, and prints nothing; leave the other arguments out")
    if wanted:
        if unknown := [name for name in wanted if name not in {claim.id for claim in chosen}]:
            raise ValueError(f"no claim {', '.join(unknown)} among the {len(chosen)} chosen; clarke claims lists them")
        chosen = Ledger(tuple(claim for claim in chosen if claim.id in wanted))
    if args.pages:
        _write_pages(Path(args.pages))
    elif args.check:
        _check_claims(chosen, args)
    elif args.json:
        print(json.dumps([_claim_dict(claim) for claim in chosen], ensure_ascii=False, indent=1))
    elif args.show:
        print("\n\n".join(claim_text(claim) for claim in chosen))
    else:
        for claim in chosen:
            print(f"{claim.id:8} {claim.verdict:10} {claim.paper:22} {claim.statement}")
        print(", ".join(f"{count} {verdict}" for verdict, count in chosen.counts().items()) or "no claims")


def _claim_dict(claim):
    fields = ("id", "paper", "place", "statement", "verdict", "corrected", "reason")
    counterexample = claim.counterexample
    return {name: getattr(claim, name) for name in fields} | {
        "counterexample": None if counterexample is None else plain(counterexample),
        "violation": None if counterexample is None else plain(claim.violation(counterexample)),
    }


def _check_claims(chosen, args):
    """Exit code 0 whatever is found: the findings are the answer."""
    found = [verify(claim, cases=args.cases) for claim in tqdm(chosen, unit="claim", disable=args.json or None)]
    if args.json:
        print(json.dumps([plain(vars(each)) for each in found], ensure_ascii=False, indent=1))
        return
    for each in found:
        if not each.confirmed:
            print(each)
    print(f"{sum(each.confirmed for each in found)} of {len(found)} verdicts confirmed")


def _write_pages(folder):
    if not (folder / "references.bib").is_file():
        raise ValueError(f"--pages {folder}: the pages go beside references.bib, and there is none")
    pages = {
        "claims.md": claims_page(ledger(), (folder / "references.bib").read_text()),
        "what-holds.md": what_holds_page(ledger()),
    }
    for name, text in pages.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
