"""The laws of stating a claim and of looking for what contradicts it."""

import json
import math
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarke import claims
from clarke.claims import nearby, papers, search, statements
from clarke.claims.statements import AMENDED, FAILS, HOLDS, OPEN, UNTESTABLE, VERDICTS, OutsideHypothesis

LEDGER = claims.ledger()
quick = settings(max_examples=40, deadline=None)


def drawn(rng):
    return claims.Draws(lambda low, high: int(rng.integers(low, high)))


def conjecture(measure, domain=None, **keywords):
    return claims.claim("C", statement="a conjecture", domain=domain, **keywords)(measure)


# ---------------------------------------------------------------- draws

SIZES = st.none() | st.integers(0, 4) | st.lists(st.integers(0, 3), max_size=3).map(tuple)
REALS = st.integers(-8, 8)
CALLS = st.one_of(
    st.tuples(
        st.just("integers"), st.tuples(REALS, st.integers(9, 20)), st.fixed_dictionaries({"endpoint": st.booleans()})
    ),
    st.tuples(st.just("integers"), st.tuples(st.integers(1, 9)), st.just({})),
    st.tuples(st.just("choice"), st.tuples(st.integers(1, 9)), st.just({})),
    st.tuples(st.just("choice"), st.tuples(st.lists(st.floats(-9, 9), min_size=1)), st.just({})),
    st.tuples(st.just("choice"), st.tuples(st.lists(st.just([1, 2, 3]), min_size=1)), st.just({})),
    st.tuples(st.just("uniform"), st.tuples(REALS, st.integers(9, 20)), st.just({})),
    st.tuples(st.just("normal"), st.tuples(REALS, st.integers(1, 5)), st.just({})),
    st.tuples(st.just("random"), st.just(()), st.just({})),
    st.tuples(st.just("standard_normal"), st.just(()), st.just({})),
)


METHODS = [name for name in vars(claims.Draws) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_what_can_be_asked_of_draws_can_be_asked_of_a_generator(name):
    """Names and defaults of parameters are the same, and so are those that may be passed by place."""
    ours, theirs = (signature(getattr(owner, name)).parameters for owner in (claims.Draws, np.random.Generator))
    assert {key: p.default for key, p in ours.items()} == {key: theirs[key].default for key in ours}
    placed = [key for key, p in ours.items() if p.kind is not p.KEYWORD_ONLY]
    assert placed == list(theirs)[: len(placed)]


@quick
@given(CALLS, SIZES, st.integers(0, 99))
def test_draws_return_the_shape_and_kind_a_generator_returns(call, size, seed):
    name, args, keywords = call
    rng = np.random.default_rng(seed)
    a = getattr(drawn(rng), name)(*args, size=size, **keywords)
    b = getattr(rng, name)(*args, size=size, **keywords)
    assert np.shape(a) == np.shape(b)
    assert isinstance(a, np.ndarray) == isinstance(b, np.ndarray)
    assert np.asarray(a).dtype.kind == np.asarray(b).dtype.kind


@quick
@given(st.integers(-30, 30), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_every_whole_number_of_the_range_is_drawn_and_no_other(low, width, endpoint, seed):
    draws = drawn(np.random.default_rng(seed))
    found = set(draws.integers(low, low + width, size=200 * width, endpoint=endpoint).tolist())
    assert found == set(range(low, low + width + endpoint))


@quick
@given(st.integers(-30, 30), st.integers(1, 30), st.integers(0, 99))
def test_real_numbers_are_multiples_of_a_sixteenth_in_their_range(low, width, seed):
    draws = drawn(np.random.default_rng(seed))
    low, high = low / 16, (low + width) / 16
    assert set(draws.uniform(low, high, size=200 * width).tolist()) == {low + k / 16 for k in range(width)}
    assert set((draws.normal(size=99) * 16) % 1) == {0.0}
    assert np.abs(draws.standard_normal(size=99)).max() <= 3
    assert set((draws.random(size=99) * 16).tolist()) <= set(range(16))


@quick
@given(st.integers(0, 8), st.integers(0, 99))
def test_a_permutation_has_every_number_once(n, seed):
    draws = drawn(np.random.default_rng(seed))
    assert sorted(draws.permutation(n).tolist()) == list(range(n))
    letters = list("abcdefgh"[:n])
    assert sorted(draws.permutation(letters).tolist()) == letters
    assert len(set(draws.choice(9, size=(n // 3, 3), replace=False).ravel().tolist())) == 3 * (n // 3)


def test_zeros_draw_the_simplest_of_everything():
    draws = claims.Draws(lambda low, high: min(max(0, low), high - 1))
    assert draws.integers(-5, 9) == 0
    assert draws.integers(3, 9) == 3
    assert draws.choice(["first", "second"]) == "first"
    assert draws.permutation(4).tolist() == [0, 1, 2, 3]
    assert draws.uniform(-1, 1) == draws.normal() == draws.random() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.integers(2, 2), "integers needs low < high; got 2 and 2"),
        (lambda d: d.integers(0), "integers needs low < high; got 0 and 0"),
        (lambda d: d.choice([]), "choice of 1 from 0 entries: there are too few"),
        (lambda d: d.choice(2, size=(1, 3), replace=False), "choice of 3 from 2 entries, each at most once"),
        (lambda d: d.uniform(2, 1), "uniform needs finite low <= high; got 2 and 1"),
        (lambda d: d.uniform(0, math.inf), "uniform needs finite low <= high; got 0 and inf"),
    ],
)
def test_a_draw_that_cannot_be_says_so(call, message):
    with pytest.raises(ValueError, match=message):
        call(drawn(np.random.default_rng(0)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.exponential(size=3),
        lambda rng: rng.multivariate_normal(np.zeros(2), np.eye(2)),
        lambda rng: rng.permuted(np.arange(4)),
        lambda rng: rng.permutation(np.arange(6).reshape(2, 3), axis=1),
        lambda rng: rng.choice(3, size=2, p=[0.5, 0.25, 0.25]),
        lambda rng: rng.choice(np.eye(3), size=2, axis=1),
        lambda rng: rng.integers([1, 2], [3, 4]),
        lambda rng: rng.integers(0, 3, size=2, dtype=np.int8),
        lambda rng: rng.uniform([0.0, 1.0], 2.0),
        lambda rng: rng.normal([0.0, 1.0], [1.0, 2.0]),
        lambda rng: rng.standard_normal(3, dtype=np.float32),
        lambda rng: rng.uniform(1, 1),
    ],
)
def test_whatever_a_generator_can_be_asked_a_domain_may_ask(draw):
    ours, theirs = draw(drawn(np.random.default_rng(0))), draw(np.random.default_rng(0))
    assert np.shape(ours) == np.shape(theirs)
    assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    found = claims.check(conjecture(lambda case: 1.0), lambda rng: {"x": draw(rng)})
    assert found.counterexample is not None


def test_what_a_generator_has_not_draws_have_not():
    with pytest.raises(AttributeError, match="randint"):
        drawn(np.random.default_rng(0)).randint(3)


def test_a_shuffled_array_keeps_its_entries():
    found = np.arange(9)
    drawn(np.random.default_rng(0)).shuffle(found)
    assert sorted(found) == list(range(9)) != list(found)


@quick
@given(st.floats(-3, 3), st.floats(1e-6, 2), st.integers(0, 99))
def test_a_narrow_range_is_not_drawn_as_one_number(low, width, seed):
    found = drawn(np.random.default_rng(seed)).uniform(low, low + width, size=60)
    assert low <= found.min() < found.max() < low + width


# ---------------------------------------------------------------- searches


@quick
@given(st.integers(1, 900))
def test_the_first_number_beyond_a_threshold_is_found(threshold):
    found = claims.check(lambda case: case["n"] - threshold + 1, lambda rng: {"n": rng.integers(-2000, 2001)})
    assert found.counterexample == {"n": threshold}
    assert found.violation == 1 - 1e-9
    assert found.draws == (threshold,)


@quick
@given(st.integers(1, 60))
def test_the_first_multiple_of_a_sixteenth_beyond_a_threshold_is_found(k):
    above = lambda case: case["x"] - (k - 0.5) / 16  # noqa: E731
    found = claims.check(above, lambda rng: {"x": rng.uniform(-9, 9)}, cases=500)
    assert found.counterexample == {"x": k / 16}


def lists(rng):
    return {"a": rng.integers(-20, 21, size=rng.integers(0, 7))}


@quick
@given(st.integers(0, 15))
def test_a_list_shrinks_to_one_entry(most):
    found = claims.check(lambda case: max(case["a"], default=0) - most, lists, cases=500)
    assert found.counterexample["a"].tolist() == [most + 1]


@quick
@given(st.integers(0, 5))
def test_where_length_matters_the_shortest_list_of_zeros_is_left(most):
    found = claims.check(lambda case: len(case["a"]) - most, lists, cases=500)
    assert found.counterexample["a"].tolist() == [0] * (most + 1)


def test_a_planted_violation_deep_inside_shrinks_to_its_reason():
    """x y > 0 with |x - y| >= 3 among much that does not matter: (1, 4), everything else 0."""

    def domain(rng):
        return {
            "noise": rng.normal(size=5),
            "x": rng.integers(-9, 10),
            "y": rng.integers(-9, 10),
            "M": rng.random((2, 2)),
        }

    def measure(case):
        claims.assume(case["x"] != case["y"])
        return float(case["x"] * case["y"] > 0 and abs(case["x"] - case["y"]) >= 3)

    case = claims.check(measure, domain).counterexample
    assert (case["x"], case["y"]) == (1, 4)
    assert not case["noise"].any()
    assert not case["M"].any()


def test_the_simplest_of_signs_is_positive_and_small_comes_before_short_sums():
    found = claims.check(lambda case: abs(case["n"]) - 7, lambda rng: {"n": rng.integers(-50, 51)})
    assert found.counterexample == {"n": 8}


@quick
@given(st.integers(0, 99))
def test_a_search_is_the_same_every_time(seed):
    measure = lambda case: sum(case["a"]) - 9  # noqa: E731
    first, second = (claims.check(measure, lists, cases=300, rng=np.random.default_rng(seed)) for _ in range(2))
    assert (first.draws, first.cases, first.met, first.shrinks) == (
        second.draws,
        second.cases,
        second.met,
        second.shrinks,
    )
    assert str(claims.check(measure, lists)) == str(claims.check(measure, lists))


@quick
@given(st.integers(0, 99))
def test_a_counterexample_is_drawn_again_from_its_numbers_and_no_step_simplifies_it(seed):
    measure = lambda case: sum(case["a"]) - 9  # noqa: E731
    found = claims.check(measure, lists, cases=500, rng=np.random.default_rng(seed))
    numbers = list(found.draws)

    def again(numbers):
        """The case of these numbers, and those that were asked for."""
        left, asked = iter(numbers), []

        def source(low, high):
            asked.append(min(max(next(left, 0), low), high - 1))
            return asked[-1]

        return lists(claims.Draws(source)), asked

    def order(numbers):
        return len(numbers), [(abs(number), number < 0) for number in numbers]

    case, asked = again(numbers)
    assert case["a"].tolist() == found.counterexample["a"].tolist()
    assert asked == numbers
    assert measure(case) > 0
    for k in range(len(numbers)):
        for other in ([], [0], [numbers[k] - 1], [numbers[k] // 2], [-numbers[k]]):
            simpler, asked = again([*numbers[:k], *other, *numbers[k + 1 :]])
            assert measure(simpler) <= 0 or order(asked) >= order(numbers)


def test_a_search_evaluates_no_more_than_it_says():
    calls = []

    def measure(case):
        calls.append(case)
        return float(case["a"].sum() > 3)

    found = claims.check(measure, lists, cases=200)
    assert len(calls) == found.cases + found.shrinks + 1  # the last: the simplest case itself
    assert found.shrinks <= search.SHRINKS


def test_without_a_violation_the_largest_measure_is_told():
    found = claims.check(lambda case: case["n"] - 10, lambda rng: {"n": rng.integers(0, 5)}, cases=64)
    assert (found.counterexample, found.cases, found.met, found.shrinks, found.draws) == (None, 64, 64, 0, ())
    assert found.violation == -6 - 1e-9
    assert str(found) == "<lambda>: no violation found in 64 cases"


def test_cases_outside_the_hypothesis_are_counted_apart():
    def measure(case):
        claims.assume(case["n"] % 2 == 0)
        return -1.0

    found = claims.check(measure, lambda rng: {"n": rng.integers(0, 100)}, cases=100)
    assert 0 < found.met < found.cases == 100
    assert str(found) == f"measure: no violation found in {found.met} cases (100 drawn)"


def test_a_domain_may_leave_a_case_out_itself():
    def domain(rng):
        n = rng.integers(0, 10)
        claims.assume(n)
        return {"n": n}

    assert claims.check(lambda case: 1 - case["n"], domain, cases=50).met < 50


def test_a_vacuous_domain_teaches_nothing_and_says_so():
    def never(case):
        claims.assume(False)

    with pytest.raises(ValueError, match="none of 7 cases of the domain met the hypothesis of never; widen the domain"):
        claims.check(never, lambda rng: {}, cases=7)


def test_a_structural_violation_is_a_violation():
    found = claims.check(lambda case: claims.equal(a=[1], b=[1, 2]), lambda rng: {"n": rng.integers(0, 9)})
    assert math.isinf(found.violation)
    assert found.counterexample == {"n": 0}
    assert str(found) == "<lambda>: violated by inf at n = 0"


def test_the_printed_and_the_corrected_statement_are_searched_on_their_own_domains():
    made = conjecture(
        lambda case: case["n"],
        domain=lambda rng: {"n": 0},
        printed_domain=lambda rng: {"n": 5},
        amended=lambda case: case["n"] - 1,
        corrected="n < 2",
    )
    assert claims.check(made).counterexample == {"n": 5}
    assert claims.check(made, amended=True).counterexample is None
    assert claims.check(made, lambda rng: {"n": 2}, amended=True).violation == 1 - 1e-9


@pytest.mark.parametrize("cases", [0, -3, 1.5, "many"])
def test_a_search_needs_a_number_of_cases(cases):
    with pytest.raises(ValueError, match=f"cases must be a whole number, at least 1; got {cases!r}"):
        claims.check(lambda case: 0, lambda rng: {}, cases=cases)


def test_a_search_needs_a_claim_and_a_domain():
    with pytest.raises(ValueError, match=r"claim must be a clarke.claims.Claim or a function of a case; got int"):
        claims.check(3, lambda rng: {})
    with pytest.raises(ValueError, match="C has no domain; pass one, a function rng -> case"):
        claims.check(conjecture(lambda case: 0))


# ---------------------------------------------------------------- measures


@pytest.mark.parametrize("answer", [True, False, np.True_, np.bool_(False)])
def test_a_measure_that_answers_yes_or_no_is_refused(answer):
    with pytest.raises(TypeError, match=f"the measure of C returned {answer}; return a number, at most 0 where"):
        conjecture(lambda case: answer).violation({})


@pytest.mark.parametrize("answer", [math.nan, np.float64("nan"), claims.Evidence(math.nan)])
def test_a_measure_that_is_nan_is_refused_with_its_case(answer):
    with pytest.raises(ValueError, match=r"the measure of C is nan at the case x = 1\.5"):
        conjecture(lambda case: answer).violation({"x": 1.5})


def test_the_measure_forgives_the_tolerance_and_no_more():
    made = conjecture(lambda case: case["e"], tolerance=0.25)
    assert made.violation({"e": 0.25}) == 0
    assert made.violation({"e": 0.5}) == 0.25


def test_what_has_no_measure_says_so():
    untestable = claims.claim("U", statement="s", verdict=UNTESTABLE, reason="words")(lambda case: 0)
    with pytest.raises(ValueError, match="U has no measure to evaluate"):
        untestable.violation({})
    with pytest.raises(ValueError, match="C has no corrected form to evaluate"):
        conjecture(lambda case: 0).amended_violation({})


SIDES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5)


@quick
@given(SIDES)
def test_equal_and_at_most_measure_distance_relative_to_the_second(a):
    a = np.array(a)
    assert claims.equal(a=a, b=a).measure == 0 == max(claims.at_most(a=a, b=a).measure, 0)
    off = a.copy()
    off[-1] += 3.0
    assert claims.equal(a=off, b=a).measure == pytest.approx(3 / max(1, np.abs(a).max()), rel=1e-6)
    assert claims.at_most(a=off, b=a).measure == pytest.approx(3 / max(1, abs(a[-1])), rel=1e-6)
    assert claims.at_most(a=a, b=off).measure == 0 if len(a) > 1 else claims.at_most(a=a, b=off).measure < 0
    assert claims.equal(a=off, b=a, scale=1e9).measure == pytest.approx(3e-9, rel=1e-6)


def test_shapes_that_differ_are_a_dimension_error():
    found = claims.equal(first=[[1, 2]], second=[1, 2])
    assert math.isinf(found.measure)
    assert found.values == {"first": "an array (1, 2)", "second": "an array (2,)"}
    assert claims.equal(a=np.zeros((0, 2)), b=np.zeros((0, 2))).measure == 0
    assert math.isinf(claims.at_most(a=[1, 2], b=[1, 2, 3]).measure)
    assert math.isinf(claims.at_most(a=[[1], [2]], b=[1, 2]).measure)  # numpy would compare each with each
    assert claims.at_most(a=[], b=[]).measure == 0
    assert claims.at_most(a=[1, 4], b=2).measure == 1


def test_the_worst_of_several_comparisons_keeps_what_all_of_them_show():
    found = claims.worst(claims.Evidence(1.0, {"x": 1}), claims.Evidence(-2.0, {"y": 2}))
    assert (found.measure, found.values) == (1.0, {"x": 1, "y": 2})


@pytest.mark.parametrize("compare", [claims.equal, claims.at_most])
def test_a_comparison_has_two_named_sides(compare):
    name = compare.__name__
    with pytest.raises(ValueError, match=f"{name} compares two named sides; got none"):
        compare()
    with pytest.raises(ValueError, match=f"{name} compares two named sides; got a, b, c"):
        compare(a=1, b=2, c=3)


# ---------------------------------------------------------------- declarations

CASE = {"n": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"verdict": "TRUE"}, "verdict must be one of HOLDS, AMENDED, FAILS, UNTESTABLE, OPEN; got 'TRUE'"),
        ({"statement": "  "}, "statement is empty; say what is claimed"),
        ({"verdict": UNTESTABLE}, "C is UNTESTABLE and needs a reason"),
        ({"verdict": FAILS}, "C is FAILS and needs a counterexample to the printed statement"),
        ({"verdict": AMENDED}, "C is AMENDED and needs a counterexample to the printed statement"),
        ({"verdict": AMENDED, "counterexample": CASE}, "C is AMENDED and needs the corrected statement, as amended"),
        (
            {"verdict": AMENDED, "counterexample": CASE, "amended": float},
            "C is AMENDED and needs the corrected statement in words",
        ),
        ({"verdict": OPEN, "amended": float}, "C is OPEN and needs the corrected statement in words"),
        (
            {"verdict": AMENDED, "counterexample": CASE, "amended": float, "corrected": "so"},
            "C is AMENDED and needs a domain",
        ),
        ({"verdict": HOLDS}, "C is HOLDS and needs a domain"),
    ],
)
def test_a_claim_whose_fields_contradict_its_verdict_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        claims.claim("C", **({"statement": "s"} | fields))(lambda case: 0)


def test_a_claim_takes_its_name_and_its_proof_from_the_function():
    @claims.claim(statement="s")
    def entries_are_signs(case):
        """Because.

        And so.
        """

    assert (entries_are_signs.id, entries_are_signs.about) == ("entries_are_signs", "Because.\n\nAnd so.")
    assert repr(entries_are_signs) == "Claim('entries_are_signs', OPEN)"
    assert entries_are_signs.verdict == OPEN
    assert not entries_are_signs.structural


def test_a_case_is_text_that_a_reader_can_write_down():
    case = {"A": np.eye(2), "x": np.float64(1 / 3), "k": np.int64(2), "s": "up", "t": (1, 2.5), "m": {"a": 1e300}}
    assert claims.case_text(case) == "A = [[1, 0], [0, 1]], x = 0.333333, k = 2, s = up, t = [1, 2.5], m = {a: 1e+300}"
    json.dumps(statements.plain(case | {"inf": math.inf}), allow_nan=False)


# ---------------------------------------------------------------- the ledger


def test_a_claim_is_found_by_id_and_by_place():
    for k, claim in enumerate(LEDGER):
        assert LEDGER[claim.id] is LEDGER[k] is claim
    assert len(LEDGER) == len(list(LEDGER)) == len({claim.id for claim in LEDGER})


def test_an_unknown_id_names_those_that_begin_alike():
    first = LEDGER[0].id
    with pytest.raises(KeyError, match=rf"no claim '{first[0]}nobody'; there are .*{first}"):
        LEDGER[first[0] + "nobody"]
    with pytest.raises(KeyError, match="no claim '~'"):
        LEDGER["~"]


def test_selections_partition_the_ledger():
    by_paper = [claim for paper in papers.PAPERS for claim in LEDGER.select(paper=paper)]
    assert by_paper == list(LEDGER)
    assert sum(len(LEDGER.select(verdict=verdict)) for verdict in VERDICTS) == len(LEDGER)
    for paper in papers.PAPERS:
        for verdict in VERDICTS:
            chosen = LEDGER.select(paper=paper, verdict=verdict)
            assert all((c.paper, c.verdict) == (paper, verdict) for c in chosen)
            assert len(chosen) == LEDGER.select(paper=paper).counts().get(verdict, 0)


def test_an_unknown_paper_or_verdict_is_refused():
    with pytest.raises(ValueError, match=r"paper must be one of bolshim2025interlayer, .*; got 'gauss1801'"):
        LEDGER.select(paper="gauss1801")
    with pytest.raises(ValueError, match=r"verdict must be one of HOLDS, .*; got 'TRUE'"):
        LEDGER.select(verdict="TRUE")


def test_a_claim_declared_twice_is_refused(monkeypatch):
    monkeypatch.setattr(papers, "PAPERS", {"once": "", "twice": ""})
    monkeypatch.setattr(papers, "_ROOMS", {"once": ("maslov2025",), "twice": ("maslov2025",)})
    with pytest.raises(ValueError, match=r"claims declared twice: .*W-nonneg"):
        papers.ledger.__wrapped__()


# ---------------------------------------------------------------- verdicts

CORRECTED = [c for c in LEDGER if c.amended is not None and c.counterexample is not None]


def meets_its_hypothesis(claim):
    try:
        claim.amended_violation(claim.counterexample)
    except OutsideHypothesis:
        return False
    return True


@pytest.mark.parametrize("claim", CORRECTED, ids=lambda claim: claim.id)
def test_with_the_printed_statement_in_place_of_the_corrected_one_a_verdict_breaks(claim):
    broken = claims.verify(replace(claim, amended=claim.measured, domain=None))
    assert not broken.confirmed
    assert broken.reasons == ("the counterexample violates the corrected statement too",)


@pytest.mark.parametrize("claim", [c for c in CORRECTED if meets_its_hypothesis(c)], ids=lambda claim: claim.id)
def test_with_the_corrected_statement_in_place_of_the_printed_one_a_verdict_breaks(claim):
    broken = claims.verify(replace(claim, measured=claim.amended, domain=None))
    assert not broken.confirmed
    assert len(broken.reasons) == 1
    assert broken.reasons[0].startswith("the counterexample violates by ")
    assert broken.reasons[0].endswith(" only")


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("T1.1p", {"W": [[1]], "V": [[1]], "y": [1]}),
        ("P1b", {"W": [[1], [1]], "D": [[1], [1]]}),
        ("D4", {"W": [[1]], "Q": [[1]]}),
        ("Lem2", {"theta": [0.5]}),
        ("Lim2", {"D": [[1]], "E": [[0]]}),
    ],
)
def test_a_counterexample_that_is_none_breaks_a_verdict(name, case):
    broken = claims.verify(replace(LEDGER[name], counterexample=case), cases=9)
    assert not broken.confirmed
    assert "the counterexample violates by " in broken.reasons[0]


def test_a_counterexample_outside_the_hypothesis_breaks_a_verdict():
    broken = claims.verify(replace(LEDGER["P1b"], measured=lambda case: claims.assume(False)))
    assert broken.reasons[0] == "the counterexample does not meet the hypothesis of the printed statement"
    assert not broken.confirmed


def test_a_corrected_statement_that_fails_on_the_domain_breaks_a_verdict():
    claim = LEDGER["P1b"]
    found = claims.verify(replace(claim, amended=lambda case: -1.0 if case is claim.counterexample else 1.0))
    assert not found.confirmed
    assert found.reasons[0].startswith("violated by 1 at ")


@pytest.mark.parametrize("name", ["R3", "P1a", "T1.1", "W-nonneg"])
def test_a_statement_that_holds_and_is_negated_breaks_a_verdict(name):
    broken = claims.verify(replace(LEDGER[name], measured=lambda case: 1.0), cases=3)
    assert not broken.confirmed
    assert broken.reasons[0].startswith("violated by 1 at ")
    assert str(broken) == f"{name}: HOLDS, {broken.reasons[0]} (1 of 1 cases met the hypothesis)"


def test_where_there_is_nothing_to_evaluate_nothing_is_evaluated():
    for made in (
        claims.claim("U", statement="s", verdict=UNTESTABLE, reason="words")(lambda case: 1 / 0),
        conjecture(lambda case: 1 / 0, domain=lambda rng: {}),
    ):
        found = claims.verify(made)
        assert (found.confirmed, found.drawn, found.met, found.reasons) == (True, 0, 0, ())
        assert str(found) == f"{made.id}: {made.verdict}, confirmed (0 of 0 cases met the hypothesis)"


def test_a_verdict_is_verified_on_the_same_cases_every_time():
    first, second = (claims.verify(LEDGER["T1.1"], cases=15) for _ in range(2))
    assert first == second
    assert (first.confirmed, first.drawn) == (True, 15)


# ---------------------------------------------------------------- the references at kinks

WHOLE = st.integers(0, 10**6).map(lambda seed: nearby.bends_or_jumps(drawn(np.random.default_rng(seed))))


@quick
@given(WHOLE)
def test_the_pieces_of_a_kinked_function_are_what_its_values_say(case):
    """Along a direction inside a cell f(t h) = f(0) + t g.h + t^2 h.H h / 2, exactly; and so in the same cell at h'."""
    f, centers = nearby.kinked(case), nearby.cells(case["W"])
    for h, g, H in zip(centers, *nearby.pieces(case), strict=True):
        for t in (1.0, 2.0, 1 / 1024):
            assert f(t * h) == pytest.approx(t * g @ h + t * t * h @ H @ h / 2, rel=1e-9, abs=1e-12)
        near = h + 1e-3 * np.arange(1, len(h) + 1)
        assert f(near) == pytest.approx(g @ near + near @ H @ near / 2, rel=1e-9, abs=1e-9)
        assert nearby.slope(case, h) == pytest.approx(g + H @ h, rel=1e-9, abs=1e-9)


@quick
@given(WHOLE, st.integers(0, 99))
def test_the_cells_are_all_there_are(case, seed):
    W = np.asarray(case["W"])
    signs = {tuple(row) for row in np.sign(nearby.cells(W) @ W.T).astype(int).tolist()}
    random = np.random.default_rng(seed).normal(size=(400, W.shape[1])) @ W.T
    assert {tuple(row) for row in np.sign(random).astype(int).tolist()} == signs
    assert len(nearby.cells(W)) == len(signs)


@quick
@given(st.integers(0, 10**6))
def test_the_least_element_by_faces_makes_no_acute_angle_with_a_corner(seed):
    points = np.random.default_rng(seed).integers(-3, 4, size=(5, 2, 2)).astype(float)
    least = nearby.least_by_faces(points)
    assert np.einsum("ij,mij->m", least, points).min() >= np.sum(least**2) - 1e-9
    assert np.linalg.norm(least) <= np.linalg.norm(points, axis=(1, 2)).min() + 1e-12


def test_sets_are_equal_whatever_their_order_and_differ_by_their_farthest_element():
    a = np.array([[0.0], [1.0]])
    assert nearby.same_set(a=a, b=a[[1, 0, 1]]).measure == 0
    assert nearby.same_set(a=a, b=[[0.0], [1.0], [3.0]]).measure == pytest.approx(2 / 3)
    assert nearby.same_set(a=[[0.0], [1.0], [3.0]], b=a).measure == 2


@pytest.mark.parametrize(
    ("measure", "domain", "rng", "error", "message"),
    [
        (lambda case: None, lambda rng: {}, None, TypeError, "the measure of C returned None; return a number"),
        (lambda case: np.ones(2), lambda rng: {}, None, TypeError, r"the measure of C returned an array \(2,\)"),
        (lambda case: 0.0, {"x": 1}, None, ValueError, "domain must be a function rng -> case; got dict"),
        (lambda case: 0.0, lambda rng: {}, 3, ValueError, "rng must be a numpy Generator or None; got int"),
    ],
)
def test_what_a_search_cannot_use_is_named(measure, domain, rng, error, message):
    with pytest.raises(error, match=message):
        claims.check(conjecture(measure), domain, rng=rng)


def test_a_case_may_be_a_plain_array():
    found = claims.check(conjecture(lambda case: case.sum() - 1), lambda rng: rng.integers(0, 9, size=2))
    assert str(found) == "C: violated by 1 at [2, 0]"
