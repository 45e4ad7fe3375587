"""The generator against its published vectors and a second implementation; what is built on it against statistics.

All draws are fixed, so a bound that holds once holds always; bounds are about four standard errors.
"""

import hashlib
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import DTypeError, OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ops.op import Tensor
from graphnn.ops.random import (
    BLOCKS_AT_ONCE,
    RandomBits,
    RandomStream,
    philox4x32,
    random_keep_mask,
    random_normal,
    random_uniform,
    random_words,
    seed_words,
    stream_of,
)
from ops.case import spec
from ops.cases_random import philox_block, word
from ops.helpers import evaluate

# From the file tests/kat_vectors of the Random123 distribution, lines `philox4x32 10`: counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
N = 100_000
uint32s = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2**31, 2**32 - 1]))


def drawn(function, *arguments, seed=3, step=0, shape=(N,), stream=None):
    """What a function on Tensors gives for one seed and step."""
    builder = ProgramBuilder()
    random = Tensor(builder, builder.input("random", spec("uint32[4]")))
    y = function(random, shape, stream_of("noise") if stream is None else stream, *arguments)
    return evaluate(builder.build([y.value]), [seed_words(seed, step)])[0]


def distance_from(cumulative, numbers):
    """Kolmogorov and Smirnov's sqrt(n) * largest distance of the distributions; above 1.95 in one of 1000 cases."""
    numbers = np.sort(numbers.reshape(-1).astype("float64"))
    expected, n = cumulative(numbers), numbers.size
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max((steps[1:] - expected).max(), (expected - steps[:-1]).max())


def normal_cumulative(x):
    return 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter, key, expected):
    counters, keys, words = ([int(number, 16) for number in text.split()] for text in (counter, key, expected))
    assert philox_block(counters, keys) == tuple(words)
    assert philox4x32(np, np.array(counters, "uint64"), np.array(keys, "uint64")).tolist() == words


@given(st.lists(st.lists(uint32s, min_size=6, max_size=6), min_size=1, max_size=5))
def test_philox_of_arrays_is_philox_of_each_element(rows):
    columns = np.array(rows, "uint64").T
    together = philox4x32(np, tuple(columns[:4]), tuple(columns[4:]))
    assert together.dtype == "uint32"
    assert together.tolist() == [list(philox_block(row[:4], row[4:])) for row in rows]


def test_words_count_on_over_32_bits_and_from_part_to_part():
    random, stream = seed_words(1, 2**33 + 5), stream_of("x")
    plain, first = random.tolist(), 2**32 - 2
    late = random_words(np, 15, stream, random, first_block=first).tolist()
    assert late == [word(4 * first + i, stream, plain) for i in range(15)]
    many = random_words(np, 4 * BLOCKS_AT_ONCE + 9, stream, random)
    places = [0, 4 * BLOCKS_AT_ONCE - 1, 4 * BLOCKS_AT_ONCE, 4 * BLOCKS_AT_ONCE + 8]
    assert many[places].tolist() == [word(place, stream, plain) for place in places]


@pytest.mark.parametrize("stream", [-1, 2**64])
def test_stream_must_have_64_bits(stream):
    with pytest.raises(OptionError, match="not a 64-bit number"):
        RandomBits((2,), stream).infer(spec("uint32[4]"))


def test_bits_of_seeds_streams_steps_and_places_are_unrelated():
    points = itertools.product(range(3), [stream_of("a"), stream_of("b"), stream_of("a", 1)], range(3))
    rows = np.array([random_words(np, 10_000, stream, seed_words(seed, step)) for seed, stream, step in points])
    bits = np.unpackbits(rows.view("uint8"), axis=1).astype("float64") - 0.5
    sigma = 0.25 * math.sqrt(bits.shape[1])  # of the sum of products of two independent rows
    products = bits @ bits.T
    assert np.abs(products[~np.eye(len(rows), dtype=bool)]).max() < 4.5 * sigma
    assert np.abs(bits.sum(axis=1)).max() < 4 * 2 * sigma
    assert np.abs((bits[:, 1:] * bits[:, :-1]).sum(axis=1)).max() < 4 * sigma
    frequencies = np.bincount(rows.view("uint8").reshape(-1), minlength=256)
    chi_squared = ((frequencies - rows.nbytes / 256) ** 2 / (rows.nbytes / 256)).sum()
    assert abs(chi_squared - 255) < 4 * math.sqrt(2 * 255)


def test_seeds_and_paths_are_mixed_in_one_pinned_way():
    """Saved experiments depend on these numbers."""
    assert seed_words(0, 0).tolist() == [2307806441, 1321738569, 0, 0]
    assert seed_words(2**70 + 1, 2**40 + 5).tolist() == [773479207, 464450350, 5, 256]
    assert stream_of("block/dropout") == 3373717810306532104
    assert stream_of("block/dropout", 1) == 2798993372889686006
    seeds = {tuple(seed_words(seed, 0)) for seed in [*range(1000), *(2**n for n in range(10, 200))]}
    assert len(seeds) == 1190
    paths = itertools.product(["", "a", "1:a", "a/b"], [0, 1, 11])
    assert len({stream_of(path, index) for path, index in paths}) == 12


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None])
def test_seed_must_be_a_natural_number(seed):
    for make in (lambda: seed_words(seed, 0), lambda: RandomStream(seed, "x"), lambda: seed_words(0, seed)):
        with pytest.raises(OptionError, match=r"integer|negative"):
            make()


def test_step_must_fit():
    with pytest.raises(OptionError, match="64 bits"):
        seed_words(0, 2**64)


def test_numpy_integers_are_seeds():
    assert seed_words(np.int64(5), np.uint8(3)).tolist() == seed_words(5, 3).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_numbers(dtype):
    y = drawn(random_uniform, dtype)
    assert y.dtype == dtype
    assert y.min() >= 0
    assert y.max() < 1
    y = y.astype("float64")
    assert abs(y.mean() - 0.5) < 4 * math.sqrt(1 / 12 / N)
    assert abs((y**2).mean() - 1 / 3) < 4 * math.sqrt(4 / 45 / N)
    if dtype != "float16":  # which has too few values for a continuous distribution
        assert distance_from(lambda x: x, y) < 1.95


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normal_numbers(dtype):
    y = drawn(random_normal, dtype)
    assert y.dtype == dtype
    y = y.astype("float64")
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((y**power).mean() - moment) < 4 * math.sqrt(variance / N)
    assert distance_from(normal_cumulative, y) < 1.95
    other = drawn(random_normal, dtype, step=1).astype("float64")
    assert abs((y * other).mean()) < 4 / math.sqrt(N)


# A float32 u next to 1 is up to 2**-25 off, which moves a small radius sqrt(-2 log u) by up to sqrt(2**-24).
@pytest.mark.parametrize(("function", "tolerance"), [(random_uniform, 0.0), (random_normal, 2.0**-12)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtypes_round_the_same_numbers(function, tolerance, dtype):
    exact, rounded = drawn(function, "float64"), drawn(function, dtype).astype("float64")
    error = np.abs(rounded - exact) / np.maximum(1, np.abs(exact))
    assert error.max() <= 0.5 * np.finfo(dtype).eps + tolerance


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_extreme_words_stay_in_range(dtype, monkeypatch):
    words = np.array([0, 1, 2**31, 2**32 - 2**19, 2**32 - 2**7, 2**32 - 1], "uint32")
    monkeypatch.setattr(RandomBits, "reference", lambda *_: words)
    uniform = drawn(random_uniform, dtype, shape=(6,))
    assert (uniform >= 0).all()
    assert (uniform < 1).all()
    assert (np.diff(uniform.astype("float64")) >= 0).all()
    one = np.dtype(dtype).type(1)
    assert uniform[-1] == (1 - 2.0**-32 if dtype == "float64" else np.nextafter(one, one - one))
    assert np.abs(drawn(random_normal, dtype, shape=(6,))).max() < 6.8


@pytest.mark.parametrize("function", [random_uniform, random_normal])
def test_numbers_need_a_float_dtype(function):
    with pytest.raises(DTypeError, match="floating-point"):
        drawn(function, "int32")


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_keep_mask_keeps_with_its_probability(probability):
    mask = drawn(random_keep_mask, probability, shape=(N // 10, 10))
    assert mask.dtype == bool
    spread = math.sqrt(probability * (1 - probability))
    assert abs(mask.mean() - probability) < 4 * spread / math.sqrt(N)
    assert np.abs(mask.mean(axis=0) - probability).max() < 4 * spread / math.sqrt(N / 10)


def test_keep_mask_is_exact_at_its_ends_and_grows_with_the_probability():
    assert not drawn(random_keep_mask, 0.0).any()
    assert drawn(random_keep_mask, 1.0).all()
    masks = [drawn(random_keep_mask, p) for p in (0.0, 2.0**-10, 0.3, 0.7, 1.0)]
    assert all((smaller <= larger).all() for smaller, larger in itertools.pairwise(masks))


def test_keep_mask_counts_words(monkeypatch):
    monkeypatch.setattr(RandomBits, "reference", lambda *_: np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], "uint32"))
    kept = {p: drawn(random_keep_mask, p, shape=(5,)).sum() for p in (0.0, 2.0**-32, 0.5, 1 - 2.0**-32, 1.0)}
    assert kept == {0.0: 0, 2.0**-32: 1, 0.5: 3, 1 - 2.0**-32: 4, 1.0: 5}


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_keep_probability_must_be_one(probability):
    with pytest.raises(OptionError, match="probability"):
        drawn(random_keep_mask, probability)


def test_other_steps_seeds_and_streams_give_other_masks():
    points = [{}, {"step": 1}, {"seed": 4}, {"stream": stream_of("noise", 1)}]
    masks = [drawn(random_keep_mask, 0.5, **point) for point in points]
    for a, b in itertools.combinations(masks, 2):
        assert abs((a == b).mean() - 0.5) < 4 * 0.5 / math.sqrt(N)


def test_stream_draws_do_not_depend_on_the_size_of_earlier_ones():
    a, b = RandomStream(1, "W"), RandomStream(1, "W")
    a.normal((10,))
    b.uniform((3, 3))
    skipped = RandomStream(1, "W", draws=1)
    later = a.normal((4,))
    assert later.tolist() == b.normal((4,)).tolist() == skipped.normal((4,)).tolist()
    assert a.draws == 2
    assert later.tolist() != a.normal((4,)).tolist()
    assert later.tolist() != RandomStream(1, "b", draws=1).normal((4,)).tolist()
    assert later.tolist() != RandomStream(2, "W", draws=1).normal((4,)).tolist()


def test_stream_has_other_words_than_the_node_of_the_same_path():
    assert RandomStream(1, "W").bits(8).tolist() != random_words(np, 8, stream_of("W"), seed_words(1, 0)).tolist()


def test_stream_numbers_are_those_of_the_formulas():
    words = RandomStream(5, "x").bits(2000).reshape(-1, 2).tolist()
    u = RandomStream(5, "x").uniform((2, 500))
    # The upper 27 bits of the first word and the upper 26 of the second, as one fraction.
    assert u.reshape(-1).tolist() == [((first >> 5) * 2**26 + (second >> 6)) / 2**53 for first, second in words]
    radius = np.array([math.sqrt(-2.0 * math.log(1.0 - x)) for x in u[0]])
    expected = [radius * [f(2.0 * math.pi * x) for x in u[1]] for f in (math.cos, math.sin)]
    np.testing.assert_allclose(RandomStream(5, "x").normal((2, 500)), expected, rtol=0, atol=4e-15)


def test_stream_distributions():
    stream = RandomStream(0, "x")
    assert distance_from(lambda x: x, stream.uniform((N,))) < 1.95
    assert distance_from(normal_cumulative, stream.normal((N,))) < 1.95
    assert stream.normal(()).shape == stream.uniform().shape == ()
    assert stream.normal((3, 0)).shape == (3, 0)


def test_permutations_are_all_equally_likely():
    stream = RandomStream(0, "x")
    counts = {order: 0 for order in itertools.permutations(range(4))}
    for _ in range(4800):
        counts[tuple(stream.permutation(4).tolist())] += 1
    assert max(abs(count - 200) for count in counts.values()) < 4 * math.sqrt(200)
    assert sorted(stream.permutation(1000).tolist()) == list(range(1000))
    assert stream.permutation(0).dtype == "int64"


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_numbers_are_the_same_in_every_process_and_machine(hash_seed):
    """The digest was taken once, and again without AVX2 and AVX-512: no library function takes part."""
    program = (
        "import hashlib; from graphnn.ops.random import RandomStream; "
        "print(hashlib.sha256(RandomStream(7, 'w').normal((100_000,)).astype('<f8').tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    expected = "d6bccccf602bd0577287157aadaf22a2c599eebd6a8240fc7719e2cf56d1bcd8"
    assert result.stdout.strip() == expected
    here = RandomStream(7, "w").normal((100_000,)).astype("<f8").tobytes()
    assert hashlib.sha256(here).hexdigest() == expected
