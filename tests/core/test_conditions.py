"""Conditions of a batch are read from its device all at once, and raise what they would have raised at once."""

from __future__ import annotations

import logging

import pytest
import torch

from fmicl_text.core.conditions import note, read_together

TRUE, FALSE = torch.tensor(True), torch.tensor(False)


def error(text: str):
    return lambda: ValueError(text)


def test_outside_it_is_read_at_once():
    note(FALSE, error("not this"))
    with pytest.raises(ValueError, match="this"):
        note(TRUE, error("this"))


def test_the_first_that_holds_is_raised_at_the_end_of_the_outermost():
    reached = []
    with pytest.raises(ValueError, match="second"), read_together():
        with read_together():
            note(FALSE, error("first"))
            note(TRUE, error("second"))
        reached.append("after the inner one")
        note(TRUE, error("third"))
        reached.append("after the third")
    assert len(reached) == 2
    note(FALSE, error("and nothing is left over"))


def test_a_warning_is_no_error(caplog: pytest.LogCaptureFixture):
    with pytest.raises(ValueError, match="then"), read_together():
        note(TRUE, lambda: logging.getLogger("fmicl_text").warning("careful"))
        note(TRUE, error("then"))
    assert "careful" in caplog.text


@pytest.mark.parametrize("at_once", [True, False])
def test_an_error_is_explained_where_it_comes_from(at_once: bool):
    explained = read_together(ValueError, lambda broken: RuntimeError(f"row 3: {broken}"))
    with pytest.raises(RuntimeError, match="row 3: broken") as raised, read_together(), explained:
        if at_once:
            raise ValueError("broken")
        note(TRUE, error("broken"))
    assert isinstance(raised.value.__cause__, ValueError)


def test_other_errors_pass_unexplained():
    with pytest.raises(KeyError), read_together(ValueError, RuntimeError):
        note(TRUE, lambda: KeyError("x"))


def test_an_error_of_the_block_comes_first():
    with pytest.raises(KeyError), read_together():
        note(TRUE, error("later"))
        raise KeyError
    note(FALSE, error("and nothing is left over"))
