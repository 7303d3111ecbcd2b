"""The budget of decoded pixels: never exceeded by threads together, never waited for for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from facecli.photos.budget import PixelBudget, Share


def test_threads_together_stay_within_the_budget():
    budget = PixelBudget(100)
    lowest = [100]
    lock = threading.Lock()

    def photo(number):
        with Share(budget) as share:
            for pixels in (10 + number % 20, 100 if number % 3 else 60):
                share.take(pixels)
                with lock:
                    lowest[0] = min(lowest[0], budget.free)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(photo, number) for number in range(200)]:
            done.result(timeout=30)
    assert lowest[0] >= 0
    assert budget.free == 100


def test_a_second_photo_waits_for_the_first():
    budget = PixelBudget(100)
    taken = threading.Event()

    def second():
        with Share(budget) as share:
            share.take(60)
            taken.set()

    with Share(budget) as first:
        first.take(50)
        thread = threading.Thread(target=second)
        thread.start()
        assert not taken.wait(0.1)
    assert taken.wait(10)
    thread.join()


def test_a_coarser_image_after_a_finer_one_costs_nothing():
    budget = PixelBudget(100)
    with Share(budget) as share:
        share.take(100)
        share.take(10)
        assert budget.free == 0
    assert budget.free == 100
