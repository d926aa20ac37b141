"""A supervised command streams its output, and leaves no process behind however it ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from flows.process import ask_to_end, lines, supervised
from tests.processes import running

PATIENCE = 15.0


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(code)]


def gone(pid: int) -> bool:
    """Whether a process has ended within some seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_output_and_errors_come_line_by_line_in_order():
    with supervised(
        python("import sys; print('one'); print('two', file=sys.stderr); print('three')"), os.environ
    ) as p:
        assert list(lines(p)) == ["one", "two", "three"]
    assert p.returncode == 0


def test_the_exit_code_is_the_commands():
    with supervised(python("raise SystemExit(75)"), os.environ) as p:
        assert list(lines(p)) == []
    assert p.returncode == 75


def test_a_signal_that_ended_the_command_is_told():
    with supervised(python("import os; os.kill(os.getpid(), 9)"), os.environ) as p:
        list(lines(p))
    assert p.returncode == 128 + signal.SIGKILL


def test_a_progress_bar_is_thinned_out_and_its_last_state_shown():
    with supervised(python("print('\\r'.join(f'{n}%' for n in range(101)))"), os.environ) as p:
        assert list(lines(p)) == ["0%", "100%"]


def test_colours_and_bytes_that_are_no_text_do_no_harm():
    with supervised(python(r"import os; os.write(1, b'\x1b[31mred\x1b[0m \xff end')"), os.environ) as p:
        assert list(lines(p)) == ["red \ufffd end"]


def test_asked_to_end_the_command_may_save_its_work(tmp_path: Path):
    code = f"""
        import signal, sys, pathlib, time
        def stop(*_):
            pathlib.Path({str(tmp_path)!r}, "saved").touch(); print("saved"); sys.exit(75)
        signal.signal(signal.SIGTERM, stop)
        print("ready"); time.sleep(600)
    """
    with supervised(python(code), os.environ, grace=PATIENCE) as p:
        said = lines(p)
        assert next(said) == "ready"
        ask_to_end(p)
        assert list(said) == ["saved"]
    assert p.returncode == 75
    assert (tmp_path / "saved").exists()


def test_a_command_that_will_not_end_is_killed_after_the_grace_with_all_its_processes():
    code = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True, stdout=subprocess.PIPE)
        child.stdout.readline(); print(child.pid); time.sleep(600)
    """
    with supervised(python(code), os.environ, grace=0.5) as p:
        grandchild = int(next(lines(p)))
    assert gone(grandchild)


def test_an_exception_in_the_block_ends_the_command():
    with (
        pytest.raises(TimeoutError),
        supervised(python("import os, time; print(os.getpid()); time.sleep(600)"), os.environ) as p,
    ):
        pid = int(next(lines(p)))
        raise TimeoutError
    assert gone(pid)


def test_a_caller_that_is_killed_takes_the_command_along_but_lets_it_save(tmp_path: Path):
    saved = tmp_path / "saved"
    work = f"""
        import os, pathlib, signal, sys, time
        def stop(*_):
            print("nobody hears this"); pathlib.Path({str(saved)!r}).write_text("done"); sys.exit(75)
        signal.signal(signal.SIGTERM, stop)
        print(os.getpid()); time.sleep(600)
    """
    caller = f"""
        import os
        from flows.process import lines, supervised
        with supervised({python(work)!r}, os.environ) as p:
            for line in lines(p): print(line)
    """
    with running(python(caller), stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        pid = int(p.stdout.readline())
        p.kill()
        p.wait()  # before the block ends, which kills all of a process that has not ended yet
    assert gone(pid)
    assert saved.read_text() == "done"
