"""The course of requests in a word of letters."""

from itertools import pairwise

from tornado_gateway.policy.views.sparks import POINTS, SPAN, Spark


def after(spark: Spark, *counts: tuple[int, int], begin: float = 0.0) -> list[str]:
    return [spark.note(total, failed, begin + number * SPAN) for number, (total, failed) in enumerate(counts)]


def test_each_span_is_a_letter_by_the_greatest_rate_and_a_failure_is_a_capital() -> None:
    assert after(Spark(), (100, 0), (110, 0), (130, 1), (130, 1)) == ["", "p", "iP", "iPa"]


def test_a_row_without_requests_never_changes() -> None:
    assert set(after(Spark(), *[(7, 1)] * (2 * POINTS))) == {""}


def test_within_a_span_nothing_changes() -> None:
    spark = Spark()
    after(spark, (0, 0), (5, 0))
    assert spark.note(90, 0, 1.9 * SPAN) == "p"


def test_the_word_is_bounded_and_old_spans_leave() -> None:
    words = after(Spark(), *[(each * 10, 0) for each in range(POINTS + 5)])
    assert words[-1] == "p" * POINTS
    assert all(len(later) >= len(earlier) for earlier, later in pairwise(words))


def test_counts_that_fall_and_a_clock_that_is_set_back_make_no_negative_rate() -> None:
    spark = Spark()
    after(spark, (100, 0), (200, 0))
    assert spark.note(50, 0, -1000.0) == "pa"
    assert spark.note(60, 0, -1000.0 + SPAN) == "pac"  # ceil(15 * 1/10)
