"""The table of a sweep's verdict."""

from __future__ import annotations

from fmicl_text.sweep.verdict import Row, Verdict


def test_headings_say_which_score_chooses_and_which_judges():
    """Both may be of one name, as held-out pairs of two sources are."""
    row = Row("infonce", "", (60.0, 1.0), (70.0, 2.0), None, None, "the baseline")
    headings, [(_, cells)] = Verdict("heldout MRR@10", "heldout MRR@10", "%", [row], "infonce", "").table()
    assert headings[:2] == ["heldout MRR@10 (chooses)", "heldout MRR@10 (judges)"] and len(set(headings)) == 7
    assert cells[0].startswith("60.00") and cells[1].startswith("70.00")
