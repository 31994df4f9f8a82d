"""Where this package does on purpose otherwise than Luigi's own tests expect. Each entry with its reason."""

from __future__ import annotations

NO_PROCESS = "Tasks run in this process: one that kills its process ends the run, as Ctrl-C or SIGTERM would."
OTHER_CLOCK = "The test turns the clock of luigi.worker; a thread's time limit is kept by the clock of task_runs."
UPPER_BOUND = "A busy worker is told an upper bound of what waits, which it does not use; an idle one the exact number."

# {test: reason}. Checked at each run: every one of these fails here and passes with Luigi's own classes.
DOES_NOT_APPLY = {
    "scheduler_api_test.py::SchedulerApiTest::test_unique_tasks": UPPER_BOUND,
    "rpc_test.py::RPCTest::test_unique_tasks": UPPER_BOUND,
    "worker_keep_alive_test.py::WorkerKeepAliveUpstreamTest::test_alive_while_has_failure": (
        "A failed task comes back when its retry_delay is over; with Luigi at the next prune, which the test keeps off."
    ),
    "worker_multiprocess_test.py::SingleWorkerMultiprocessTest::test_default_multiprocessing_behavior": (
        "With one place too a task runs beside the main thread, which is what use_multiprocessing says to Luigi."
    ),
    "worker_scheduler_com_test.py::WorkerSchedulerCommunicationTest::test_dispatch_valid_message": (
        "More places do not let two tasks without run_async run at once: their threads go one at a time."
    ),
    "worker_test.py::KeyboardInterruptBehaviorTest::test_propagation_when_executing": (
        "A KeyboardInterrupt that a task raises in its thread fails the task; only Ctrl-C ends the run."
    ),
    "worker_test.py::WorkerEmailTest::test_task_times_out": (
        "The mail says that the task's thread may still run, where Luigi's says that its process was terminated."
    ),
    "worker_test.py::WorkerEmailTest::test_task_process_dies_with_email": NO_PROCESS,
    "worker_test.py::WorkerEmailTest::test_task_process_dies_no_email": NO_PROCESS,
    "worker_test.py::MultipleWorkersTest::test_term_worker": NO_PROCESS,
    "worker_test.py::MultipleWorkersTest::test_kill_worker": NO_PROCESS,
    "worker_test.py::MultipleWorkersTest::test_purge_multiple_workers": NO_PROCESS,
    "worker_test.py::MultipleWorkersTest::test_stop_worker_kills_subprocesses": (
        "The test asks a run for the id of its process; a thread has none, and its task only fails."
    ),
    "worker_test.py::MultipleWorkersTest::test_purge_hung_worker_default_timeout_time": OTHER_CLOCK,
    "worker_test.py::MultipleWorkersTest::test_purge_hung_worker_override_timeout_time": OTHER_CLOCK,
    "worker_test.py::WorkerPurgeEventHandlerTest::test_timeout_handler": OTHER_CLOCK,
    "worker_test.py::WorkerPurgeEventHandlerTest::test_timeout_handler_single_worker": OTHER_CLOCK,
    "worker_test.py::WorkerPurgeEventHandlerTest::test_process_killed_handler": (
        "The test has a process die and counts the event that Luigi's worker fires for it; here is none to die."
    ),
}

# These end the process that they run in, or leave a thread that turns for ever: each gets a process of its own.
NEED_OWN_PROCESS = [
    "worker_test.py::MultipleWorkersTest::test_term_worker",
    "worker_test.py::MultipleWorkersTest::test_kill_worker",
    "worker_test.py::MultipleWorkersTest::test_purge_multiple_workers",
    "worker_test.py::MultipleWorkersTest::test_stop_worker_kills_subprocesses",
    "worker_test.py::MultipleWorkersTest::test_no_process_leak_from_repeatedly_running_same_task",
    "worker_test.py::MultipleWorkersTest::test_time_out_hung_worker",
    "worker_test.py::MultipleWorkersTest::test_time_out_hung_single_worker",
    "worker_test.py::MultipleWorkersTest::test_purge_hung_worker_default_timeout_time",
    "worker_test.py::MultipleWorkersTest::test_purge_hung_worker_override_timeout_time",
    "worker_test.py::WorkerEmailTest::test_task_process_dies_with_email",
    "worker_test.py::WorkerEmailTest::test_task_process_dies_no_email",
    "worker_test.py::WorkerPurgeEventHandlerTest::test_process_killed_handler",
    "worker_test.py::WorkerPurgeEventHandlerTest::test_timeout_handler",
    "worker_test.py::WorkerPurgeEventHandlerTest::test_timeout_handler_single_worker",
]

# {file or test: reason}: neither run here nor with Luigi's own classes.
NOT_RUN = {
    "cmdline_test.py": "It is about Luigi's scripts in bin/, which the source distribution does not bring.",
    "customized_run_test.py": "It imports luigi.contrib.mrrunner, which the release does not bring.",
    "range_test.py": "Dates and hours of luigi.tools.range, for half a minute; it schedules nothing of its own.",
    "server_test.py": "Luigi's web server; what the scheduler answers over HTTP is in rpc_test.py.",
    "task_running_resources_test.py::ConcurrentRunningResourcesTest": "Its server takes port 8082 of the machine.",
}
