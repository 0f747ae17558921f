from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.display.layout import Demand, share

demands = st.lists(
    st.builds(
        lambda details, first, later, row_step, step: Demand(details, first, row_step, first + later, step),
        st.lists(st.integers(0, 8), min_size=1, max_size=40),
        st.floats(0, 5),
        st.floats(0.1, 8),
        st.floats(0.1, 3),
        st.floats(0.1, 3),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(demands, st.integers(0, 80))
def test_shares_fit_and_waste_nothing(sections, lines):
    shares, gaps = share(sections, lines, gap_urgency=7.0)
    used = sum(part.lines for part in shares) + (len(shares) if gaps else 0)
    assert used <= max(lines, len(sections))
    assert all(
        got <= wanted.details[i]
        for part, wanted in zip(shares, sections, strict=True)
        for i, got in enumerate(part.details)
    )
    shown_all = all(part.details == list(wanted.details) for part, wanted in zip(shares, sections, strict=True))
    if used + 2 <= lines:
        assert shown_all


def test_one_more_row_is_free_where_it_replaces_the_count_of_one():
    (part,), _ = share([Demand([0, 0, 0], 1, 1, 1, 1)], 4, gap_urgency=99)
    assert (part.rows, part.hidden, part.lines) == (3, 0, 4)


def test_a_section_that_gets_no_row_keeps_its_heading():
    shares, _ = share([Demand([0] * 9, 1, 0.1, 1, 1), Demand([0] * 5, 50, 1, 1, 1)], 6, gap_urgency=99)
    assert [part.rows for part in shares] == [3, 0]
    assert shares[1].lines == 1
