"""What grew? On made-up samples."""

from __future__ import annotations

from loadtest.measure.soak import growth, judged
from loadtest.report.usage import Sample


def samples(*, rss_per_s: float = 0.0, threads: int = 5, late_threads: int = 5) -> list[Sample]:
    return [
        Sample(at, 1, threads if at < 80 else late_threads, int(100e6 + rss_per_s * at), 0.0, 0, 0, 30 + at % 3, 0.1)
        for at in range(100)
    ]


def grown(*args: object, **options: object) -> set[str]:
    return {each.name for each in judged(*args, **options) if each.grown}  # type: ignore[arg-type]


def test_a_server_that_breathes_is_steady():
    assert grown(samples(rss_per_s=0.1e6), [float(40 + number % 7) for number in range(20)], 20) == set()


def test_memory_threads_and_greenlets_that_climb_are_told():
    assert grown(samples(rss_per_s=0.3e6, late_threads=6), [float(number) for number in range(20)], 10) == {
        "RSS, MB",
        "threads",
        "greenlets",
    }


def test_growth_is_between_the_first_and_the_last_fifth():
    found = growth("x", [1.0, 1.0, 50.0, 50.0, 50.0, 50.0, 50.0, 50.0, 3.0, 3.0], allowed=1)

    assert (found.first, found.last, found.grown) == (1.0, 3.0, True)


def test_too_few_samples_tell_nothing():
    assert judged(samples()[:4], [], 20) == []
