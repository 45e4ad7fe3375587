"""Named sizes: whatever is computed with names agrees with the same computation on integers."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import DimensionError
from graphnn.ir.dimension import MAX_TEXT, Dimension, bind, is_known, parse_size, substitute

NAMES = ("batch", "n", "time")
SIZES = st.fixed_dictionaries({name: st.integers(0, 50) for name in NAMES})
LEAVES = st.sampled_from(NAMES) | st.integers(-9, 9)
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod}


def combine(parts):
    return st.tuples(parts, st.sampled_from("+-*"), parts) | st.tuples(
        parts, st.sampled_from(["//", "%"]), st.integers(1, 9)
    )


TREES = st.recursive(LEAVES, combine, max_leaves=8)


def evaluate(tree, names):
    if isinstance(tree, str):
        return names[tree]
    if isinstance(tree, int):
        return tree
    left, sign, right = tree
    return OPERATIONS[sign](evaluate(left, names), evaluate(right, names))


SYMBOLS = {name: Dimension.named(name) for name in NAMES}


@given(TREES, SIZES)
def test_binding_commutes_with_arithmetic(tree, sizes):
    assert bind(evaluate(tree, SYMBOLS), sizes) == evaluate(tree, sizes)


@given(TREES, st.fixed_dictionaries({name: TREES for name in NAMES}), SIZES)
def test_substitution_commutes_with_arithmetic(tree, others, sizes):
    replaced = substitute(evaluate(tree, SYMBOLS), {name: evaluate(other, SYMBOLS) for name, other in others.items()})
    assert bind(replaced, sizes) == evaluate(tree, {name: evaluate(other, sizes) for name, other in others.items()})


@given(TREES)
def test_text_is_read_back_equal(tree):
    size = evaluate(tree, SYMBOLS)
    assert parse_size(str(size)) == size
    assert hash(parse_size(str(size))) == hash(size)
    assert str(parse_size(str(size))) == str(size)


@given(TREES, TREES, TREES)
def test_equal_expressions_have_one_form(a, b, c):
    a, b, c = (evaluate(tree, SYMBOLS) for tree in (a, b, c))
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0
    assert str(a * b + c) == str(c + b * a)
    assert (5 * a + 3) // 5 == a


@given(TREES, TREES, SIZES)
def test_order_is_right_or_refused(a, b, sizes):
    left, right = evaluate(a, SYMBOLS), evaluate(b, SYMBOLS)
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        try:
            answer = compare(left, right)
        except DimensionError:
            assert not is_known(left) or not is_known(right)
        else:
            assert answer == compare(evaluate(a, sizes), evaluate(b, sizes))


@given(TREES, st.integers(1, 9), st.lists(st.sampled_from(NAMES), min_size=1, max_size=2), SIZES)
def test_division_by_names_is_exact(tree, factor, names, sizes):
    divisor = factor
    for name in names:
        divisor = divisor * SYMBOLS[name]
    assert (evaluate(tree, SYMBOLS) * divisor) // divisor == evaluate(tree, SYMBOLS)


@given(TREES)
def test_names_are_those_that_matter(tree):
    size = evaluate(tree, SYMBOLS)
    if isinstance(size, Dimension):
        bind(size, dict.fromkeys(size.names, 3))  # no other name is asked for
        with pytest.raises(DimensionError, match="no input gives a size"):
            bind(size, dict.fromkeys(list(size.names)[1:], 3))
    else:
        assert isinstance(size, int)


def test_division_that_is_not_exact_is_refused():
    batch, time = SYMBOLS["batch"], SYMBOLS["time"]
    for bad in (lambda: (batch + 1) // time, lambda: batch // (batch + 1), lambda: 3 * batch // (2 * batch)):
        with pytest.raises(DimensionError, match="do not divide for every value"):
            bad()
    with pytest.raises(DimensionError, match="divided by a positive integer"):
        batch // 0


def test_a_name_is_no_number():
    with pytest.raises(DimensionError, match="`2\\*time` is known by name only"):
        range(2 * SYMBOLS["time"])
    with pytest.raises(DimensionError, match="order of these sizes is not known"):
        max(SYMBOLS["time"], 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time", "time"),
        (" 2*time-1 ", "2*time - 1"),
        ("(time + 1)//2", "(time + 1)//2"),
        ("time//1", "time"),
        ("(4*time + 6)//2", "2*time + 3"),
        ("-(-3)", "3"),
        ("a*b - b*a", "0"),
        ("größe", "größe"),
    ],
)
def test_reading(text, expected):
    assert str(parse_size(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2**n",
        "n/2",
        "n%2",
        "f(n)",
        "n.a",
        "n[0]",
        "True",
        "1.5",
        "'n'",
        "n if n else n",
        "lambda: n",
        "n//m",
        "n//-1",
        "__import__('os')",
        "n;n",
        "n\nn",
        "(" * 5000 + "n" + ")" * 5000,
        "-" * 400 + "'n'",
        "n+" * MAX_TEXT + "n",
        "\0",
        "n//0",
        "not n",
        "n,",
    ],
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(DimensionError, match=r"not a size|positive integer"):
        parse_size(text)
