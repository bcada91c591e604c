"""Threads: many at once, short-lived ones, fork after use, exit while they work."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import depthwise
from cases import Case
from comparator import Array, assert_same_bits
from interpreter_lock import assert_python_runs_during
from operations import EVERY_OPERATION, FORWARD, GRADIENTS, Operands, Operation
from subprocesses import output_of

# Some 17 million multiply-adds: enough to be shared among threads.
CASE = Case((112, 112), (3, 3), 150)

# Begins the scripts: a problem that is shared among threads, and its result on one thread.
PREAMBLE = """
import os, sys, threading, numpy as np, depthwise
random = np.random.default_rng(1)
input = random.standard_normal((2, 64, 64, 48)).astype(np.float32)
filter = random.standard_normal((3, 3, 48, 1)).astype(np.float32)
options = ([1, 1, 1, 1], "SAME")
def run():
    output = depthwise.depthwise_conv2d(input, filter, *options)
    of_input = depthwise.depthwise_conv2d_backprop_input(input.shape, filter, output, *options)
    of_filter = depthwise.depthwise_conv2d_backprop_filter(input, filter.shape, output, *options)
    return output.tobytes() + of_input.tobytes() + of_filter.tobytes()
before = depthwise.get_num_threads()
depthwise.set_num_threads(1)
want = run()
depthwise.set_num_threads(before)
"""


def on_one_thread(operation: Operation) -> tuple[Operands, Array]:
    """Return operands and the result that one thread computes."""
    operands = operation.random_data(CASE, np.dtype(np.float32))
    before = depthwise.get_num_threads()
    depthwise.set_num_threads(1)
    want = operation(CASE, operands, "NHWC")
    depthwise.set_num_threads(before)
    return operands, want


@pytest.fixture(scope="module")
def problem() -> tuple[Array, Array, Array]:
    """Return an input, a filter and the result on one thread."""
    (input, filter), want = on_one_thread(FORWARD)
    return input, filter, want


@pytest.mark.parametrize("pool_size", [1, 2, 5])
@EVERY_OPERATION
def test_sixteen_python_threads_at_once(
    operation: Operation, pool_size: int, restored_threads: None
) -> None:
    (first, second), want = on_one_thread(operation)
    depthwise.set_num_threads(pool_size)
    start = threading.Barrier(16)

    def work(number: int) -> None:
        # Each thread has its own operand, so that a result of another would be noticed.
        own = first * np.float32(2.0**number)
        own_want = want * np.float32(2.0**number)
        start.wait()
        for _ in range(3):
            assert_same_bits(operation(CASE, (own, second), "NHWC"), own_want)

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(work, range(16)))


def test_threads_that_come_and_go(problem: tuple[Array, Array, Array]) -> None:
    """Two hundred threads, each of which calls twice and ends; none may leave a thread behind."""
    input, filter, want = problem
    small_input, small_want = input[:, :16], want[:, :15]
    results: list[Array] = []

    def work() -> None:
        for _ in range(2):
            got = depthwise.depthwise_conv2d(small_input, filter, **CASE.arguments("NHWC"))
        results.append(got[:, :15])

    work()
    threads_before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
    for _ in range(40):
        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 201
    for got in results:
        assert_same_bits(np.ascontiguousarray(got), np.ascontiguousarray(small_want))
    if threads_before:
        assert len(os.listdir("/proc/self/task")) <= threads_before + 5


def test_changing_the_number_while_others_compute(
    problem: tuple[Array, Array, Array], restored_threads: None
) -> None:
    input, filter, want = problem
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            got = depthwise.depthwise_conv2d(input, filter, **CASE.arguments("NHWC"))
            assert_same_bits(got, want)

    with ThreadPoolExecutor(3) as executor:
        running = [executor.submit(work) for _ in range(3)]
        for number in [1, 4, 2, 7, 3, 1, 5] * 5:
            depthwise.set_num_threads(number)
            depthwise.depthwise_conv2d(input[:, :20], filter, **CASE.arguments("NHWC"))
        stop.set()
        for future in running:
            future.result()


def test_python_runs_while_native_code_does() -> None:
    """The interpreter lock is released."""
    input = np.ones((1, 300, 300, 16), np.float32)
    filter = np.ones((31, 31, 16, 1), np.float32)
    assert_python_runs_during(lambda: depthwise.depthwise_conv2d(input, filter, [1] * 4, "SAME"))


@pytest.mark.parametrize("operation", GRADIENTS, ids=str)
def test_changing_the_number_while_gradients_are_computed(
    operation: Operation, restored_threads: None
) -> None:
    operands, want = on_one_thread(operation)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            assert_same_bits(operation(CASE, operands, "NHWC"), want)

    with ThreadPoolExecutor(3) as executor:
        running = [executor.submit(work) for _ in range(3)]
        for number in [1, 4, 2, 7, 3, 1, 5] * 3:
            depthwise.set_num_threads(number)
            assert_same_bits(operation(CASE, operands, "NHWC"), want)
        stop.set()
        for future in running:
            future.result()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_use(threads: int) -> None:
    """The child of a process that has used its threads computes too, and so does its own child."""
    output_of(
        PREAMBLE
        + f"""
depthwise.set_num_threads({threads})
for _ in range(20):
    assert run() == want
for generation in range(3):
    child = os.fork()
    if child:
        assert run() == want
        status = os.waitpid(child, 0)[1]
        os._exit(os.waitstatus_to_exitcode(status))
    for _ in range(20):
        assert run() == want
    assert depthwise.get_num_threads() == {threads}
"""
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_other_threads_compute() -> None:
    """A fork may fall into the middle of another thread's call; the child must not wait for it."""
    output_of(
        PREAMBLE
        + """
depthwise.set_num_threads(3)
stop = threading.Event()
def work():
    while not stop.is_set():
        assert run() == want
workers = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for worker in workers:
    worker.start()
children = []
for _ in range(20):
    child = os.fork()
    if not child:
        for _ in range(3):
            if run() != want:
                os._exit(1)
        os._exit(0)
    children.append(child)
failed = [child for child in children if os.waitpid(child, 0)[1]]
stop.set()
for worker in workers:
    worker.join()
assert not failed, failed
"""
    )


def test_multiprocessing_pool_after_use() -> None:
    output_of(
        PREAMBLE
        + """
import multiprocessing
assert run() == want
def matches(_):
    return run() == want
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert all(pool.map(matches, range(12)))
"""
    )


def test_exit_while_workers_sleep() -> None:
    output_of(PREAMBLE + "depthwise.set_num_threads(4); assert run() == want")


@pytest.mark.parametrize("threads", [1, 3])
def test_exit_while_daemon_threads_compute(threads: int) -> None:
    """The interpreter ends while calls are under way; their threads must not abort the process."""
    output_of(
        PREAMBLE
        + f"""
import time
depthwise.set_num_threads({threads})
def work():
    while True:
        run()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""
    )


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two processors",
)
def test_workers_wake_beside_the_caller() -> None:
    """After a pause a worker starts on another processor than the caller's, and is free again."""
    output_of(
        PREAMBLE
        + """
import time
depthwise.set_num_threads(2)
others = set(os.listdir("/proc/self/task"))
assert run() == want
[worker] = set(os.listdir("/proc/self/task")) - others
allowed = os.sched_getaffinity(0)
seen = set()
done = threading.Event()
def watch():
    while not done.is_set():
        seen.add(frozenset(os.sched_getaffinity(int(worker))))
        time.sleep(0.001)
watcher = threading.Thread(target=watch)
watcher.start()
large = np.ones((1, 512, 512, 48), np.float32)  # 10 ms and more
end = time.monotonic() + 30
while len(seen) < 2 and time.monotonic() < end:
    time.sleep(0.02)  # the worker sleeps
    depthwise.depthwise_conv2d(large, filter, *options)
done.set()
watcher.join()
while_working = seen - {frozenset(allowed)}
assert while_working, "the caller's processor was never taken away"
assert all(set(some) < allowed and len(some) == len(allowed) - 1 for some in while_working), seen
end = time.monotonic() + 30
while os.sched_getaffinity(int(worker)) != allowed:
    assert time.monotonic() < end, "it was not given back"
    time.sleep(0.001)
os.sched_setaffinity(int(worker), {min(allowed)})
for _ in range(10):
    time.sleep(0.002)
    assert run() == want
time.sleep(0.02)
assert os.sched_getaffinity(int(worker)) == {min(allowed)}, "what the user chose is kept"
"""
    )
