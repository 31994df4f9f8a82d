"""Benchmarks: each beside its floor or its peers, in the same run.

    python -m benchmarks [chain3|fan|dashboard|planning|document_cost|verification|all] [--quick] [--json FILE]
    python -m benchmarks page FILE                    results as tables and plots into docs/benchmarks.md

- What is measured runs in processes of its own: wall time, CPU time of the whole process tree, peak memory.
- A number is the median of several runs, and says so; what was stopped at its limit is reported as that.
- Every benchmark checks that the work was done before it counts the time.

    __main__ -> chain3, fan, dashboard, planning, document_cost, verification
             -> cohort_folder, peers, measure -> results
                page -> plots, tables -> results

`floor`, `fan_run`, `dashboard_client`, `add_phase` and `hashing` are what runs in the child processes.
"""
