import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.training.progress import Progress


class Stream(io.StringIO):
    """A stream that may be a terminal; `writes` has the time and the text of each write."""

    def __init__(self, terminal, clock):
        super().__init__()
        self.terminal, self.clock, self.writes = terminal, clock, []

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.writes.append((self.clock.now, text))
        return super().write(text)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def screen(text):
    """What a terminal shows: a carriage return goes back to the head of the line, and letters replace others."""
    lines = []
    for line in text.split("\n"):
        cells = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines


def train(terminal=True, environment=None, width=100, epochs=2, steps=5, seconds=1.0, known=True, finish=True):
    """Epochs of steps of 4 examples, whose losses fall by 1; returns the stream and the progress."""
    clock = Clock()
    stream = Stream(terminal, clock)
    progress = Progress(stream, clock, environment or {}, width)
    for epoch in range(1, epochs + 1):
        progress.start_epoch(epoch, epochs if known else None, steps if known else None)
        for step in range(steps):
            clock.now += seconds
            progress.step(4, {"loss": float(steps - step), "accuracy": 0.5})
        if finish or epoch < epochs:
            clock.now += 7.0  # validation
            row = {"epoch": epoch, "step": 9, "loss": 1.25, "val_loss": 1 / 3, "learning_rate": 1e-3, "seconds": 75.2}
            progress.finish_epoch({**row, "status": "completed" if epoch < epochs else "stopped"})
    return stream, progress


PLAIN = [
    "epoch 1/2  loss 1.25  val_loss 0.3333  lr 0.001  1:15  4 samples/s",
    "epoch 2/2  loss 1.25  val_loss 0.3333  lr 0.001  1:15  4 samples/s  stopped",
    "",
]


@pytest.mark.parametrize("terminal", [True, False])
def test_each_epoch_leaves_one_line(terminal):
    stream, progress = train(terminal)
    progress.close()
    assert screen(stream.getvalue()) == PLAIN


@pytest.mark.parametrize(
    ("terminal", "environment"), [(False, {}), (True, {"TERM": "dumb"}), (False, {"TERM": "xterm"})]
)
def test_files_and_dumb_terminals_get_whole_lines_only(terminal, environment):
    stream, progress = train(terminal, environment)
    progress.close()
    assert stream.getvalue().split("\n") == PLAIN  # so no carriage return either
    assert len(stream.writes) == 2


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "xterm-256color"}])
def test_no_escape_codes_are_ever_written(environment):
    stream, _ = train(True, environment)
    assert stream.getvalue().isascii()
    assert {letter for letter in stream.getvalue() if not letter.isprintable()} == {"\r", "\n"}


def test_the_line_shows_place_means_pace_and_what_is_left():
    stream, _ = train(epochs=1, finish=False)
    drawn = stream.getvalue().split("\r")
    assert drawn[1] == "epoch 1/1  step 0/5 [....................]"
    assert drawn[2].rstrip() == "epoch 1/1  step 1/5 [====................]  loss 5  accuracy 0.5"
    assert drawn[4].rstrip() == (
        "epoch 1/1  step 3/5 [============........]  loss 4  accuracy 0.5  4 samples/s  2.0 s left"
    )
    unknown = train(epochs=1, finish=False, known=False)[0].getvalue().split("\r")
    assert unknown[4].rstrip() == "epoch 1  step 3  loss 4  accuracy 0.5  4 samples/s"


def test_means_are_weighted_by_examples():
    clock = Clock()
    stream = Stream(True, clock)
    progress = Progress(stream, clock, {}, 80)
    progress.start_epoch(1)
    for samples, loss in ((30, 1.0), (10, 5.0)):
        clock.now += 1
        progress.step(samples, {"loss": loss})
    assert "loss 2 " in stream.getvalue()


@given(
    seconds=st.sampled_from([1e-5, 1e-3, 0.03, 0.099, 0.5]),
    steps=st.integers(1, 40),
    epochs=st.integers(1, 4),
    width=st.integers(5, 120),
)
def test_lines_fit_the_terminal_and_are_redrawn_at_most_ten_times_a_second(seconds, steps, epochs, width):
    stream, _ = train(True, {}, width, epochs, steps, seconds, finish=False)
    redraws = [(time, text) for time, text in stream.writes if not text.endswith("\n")]
    assert all(text[0] == "\r" and len(text) <= width for _, text in redraws)
    assert all(b - a >= 0.1 - 1e-9 for (a, _), (b, _) in itertools.pairwise(redraws))
    assert len(redraws) >= min(int(seconds * steps / 0.2), steps)  # but drawn it is


def test_an_unfinished_line_is_wiped_off_once():
    stream, progress = train(epochs=1, finish=False)
    progress.close()
    text = stream.getvalue()
    assert screen(text) == [""]
    assert text.endswith("\r")
    progress.close()
    assert stream.getvalue() == text
    progress.message("stopped at step 5")
    assert screen(stream.getvalue()) == ["stopped at step 5", ""]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0126, "13 ms"), (0.9999, "1.0 s"), (59.94, "59.9 s"), (59.97, "1:00"), (75.2, "1:15"), (3700, "1:01:40")],
)
def test_durations_are_short(seconds, text):
    clock = Clock()
    stream = Stream(False, clock)
    Progress(stream, clock, {}).finish_epoch({"seconds": seconds})
    assert stream.getvalue() == f"epoch 0  {text}\n"


@pytest.mark.parametrize(
    ("rate", "text"), [(3, "3"), (999.4, "999"), (1234, "1.23k"), (45_600_000, "45.6M"), (2e9, "2G")]
)
def test_rates_have_three_digits(rate, text):
    clock = Clock()
    stream = Stream(False, clock)
    progress = Progress(stream, clock, {})
    progress.start_epoch(1)
    progress.step(1, {})
    clock.now += 1
    progress.step(rate, {})
    progress.finish_epoch({"seconds": 2.0})
    assert stream.getvalue() == f"epoch 1  2.0 s  {text} samples/s\n"


def test_the_standard_error_stream_is_the_default(capsys):
    Progress().finish_epoch({"loss": 0.5, "seconds": 1.0})
    captured = capsys.readouterr()
    assert captured.err == "epoch 0  loss 0.5  1.0 s\n"
    assert captured.out == ""
