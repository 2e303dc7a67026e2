from tests.scripts.conftest import RunScript


def test_plain(on_cpu: RunScript):
    run = on_cpu("plain.py", "--batch-size", "{n}", sizes=(16,))
    print(run.refusal, run.ready.script, run.trials, run.changes, run.printed)


def test_plain4(on_t4: RunScript):
    run = on_t4("plain.py", "--batch-size", "{n}", sizes=(16,))
    print(run.refusal, run.ready.script, run.trials, run.changes, run.printed)
