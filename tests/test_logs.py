"""
What a log line may hold, read as the operator's terminal or collector would.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings

import pytest
import structlog

from hypothesis import given
from hypothesis import strategies as st

from popfetchd import logs
from popfetchd.logs import Format
from popfetchd.values import Secret


@pytest.fixture(autouse=True)
def _restored():
    """
    Logging is global: what a test sets up does not outlive it.
    """
    root, apscheduler = logging.root, logging.getLogger("apscheduler")
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    apscheduler.setLevel(logging.NOTSET)
    logging.raiseExceptions = raising
    logging.captureWarnings(capture=False)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(format_, tell, level="debug", stream=None, **environ):
    """
    What stands in the log after *tell* was given the logger.
    """
    stream = stream or io.StringIO()
    logs.configure(level, format_, stream=stream, environ=environ)
    tell(logs.get())
    return stream.getvalue()


def event(tell, **kwargs):
    """
    The one JSON line that *tell* made.
    """
    return json.loads(written(Format.JSON, tell, **kwargs))


# -- shape ----------------------------------------------------------------------------


def test_a_line_is_one_json_object():
    """
    Time (UTC), level and event come first, then the fields as values.
    """
    line = written(Format.JSON, lambda log: log.info("visit ended", n=3, ok=True))
    found = json.loads(line)
    expected = {"level": "info", "event": "visit ended", "n": 3, "ok": True}
    assert found.pop("timestamp").endswith("Z")
    assert expected == found
    assert line.startswith('{"timestamp": ')
    assert 1 == line.count("\n")


def test_auto_is_for_people_on_a_terminal():
    """
    A terminal gets the console's format with colours, all else gets JSON.
    """
    on_terminal = written(Format.AUTO, lambda log: log.info("hi"), stream=Terminal())
    assert "\x1b[" in on_terminal
    assert "hi" in on_terminal
    plain = written(
        Format.AUTO, lambda log: log.info("hi"), stream=Terminal(), NO_COLOR="1"
    )
    assert "\x1b" not in plain
    assert "hi" == event(lambda log: log.info("hi"))["event"]


def test_a_file_has_no_colours():
    """
    The console's format, asked for by name, is plain where nobody looks.
    """
    line = written(Format.CONSOLE, lambda log: log.warning("hi", account="alice"))
    assert "\x1b" not in line
    assert "[warning  ] hi" in line
    assert "account=alice" in line


def test_levels_are_honoured():
    """
    What is below the level is not written.
    """

    def tell(log):
        log.debug("no")
        log.info("no")
        log.warning("yes")

    assert "yes" == event(tell, level="warning")["event"]


def test_lines_of_other_libraries_have_the_same_shape():
    """
    A record of the standard library's logging becomes a line like ours, extras too.
    """

    def tell(_log):
        logging.getLogger("other").warning("it %s", "rains", extra={"depth": 2})

    found = event(tell)
    assert ("it rains", "warning", 2) == (
        found["event"],
        found["level"],
        found["depth"],
    )


def test_the_scheduler_s_chatter_is_left_out():
    """
    APScheduler tells of troubles only.
    """

    def tell(_log):
        logging.getLogger("apscheduler.scheduler").info("Added job")
        logging.getLogger("apscheduler.scheduler").warning("trouble")

    assert "trouble" == event(tell)["event"]


def test_warnings_become_lines():
    """
    What Python warns of goes to the log, not past it.
    """

    def tell(_log):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=True)
            warnings.warn("old", stacklevel=1)
            logging.captureWarnings(capture=False)

    assert "UserWarning: old" in event(tell)["event"]


def test_what_is_bound_to_the_context_is_told():
    """
    Fields bound for the time of a visit stand in each of its lines.
    """

    def tell(log):
        with structlog.contextvars.bound_contextvars(account="alice"):
            log.info("hi")

    assert "alice" == event(tell)["account"]


# -- what may never stand in a line ---------------------------------------------------

HOSTILE = "a\x1b[2J\r\n2026 [info] forged\x9b\u2028\u202e\u200f\ufeff\x00z"
HARMLESS = r"a\x1b[2J\x0d\x0a2026 [info] forged\x9b\u2028\u202e\u200f\ufeff\x00z"


@pytest.mark.parametrize("format_", [Format.CONSOLE, Format.JSON])
def test_nothing_can_write_to_a_terminal(format_):
    """
    In event, key, value or depth: each control character is written as an escape.
    """

    def tell(log):
        log.info(
            HOSTILE,
            text=HOSTILE,
            octets=HOSTILE[:8].encode(),
            nested={HOSTILE: [HOSTILE, (HOSTILE, {1: HOSTILE})]},
            thing=ValueError(HOSTILE),
            **{HOSTILE: 1},
        )

    line = written(format_, tell)
    assert 1 == line.count("\n")
    assert line.endswith("\n")
    assert all(character.isprintable() for character in line[:-1])


def test_the_escape_says_what_it_was():
    """
    Two digits below 256, four above, eight beyond 65,535; the rest is untouched.
    """
    found = event(lambda log: log.info("hi", reply=HOSTILE, name="Žofie ⁂"))
    assert HARMLESS == found["reply"]
    assert "Žofie ⁂" == found["name"]


def test_what_cannot_be_seen_is_shown():
    """
    Else two senders look the same; but what makes letters of a script join stays.
    """
    unseen = "pay\xadpal\u200b.example\u2060\ufff9\U000e0041"
    shown = r"pay\xadpal\u200b.example\u2060\ufff9\U000e0041"
    assert shown == logs.clean(unseen)
    joined = (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f680"
    )
    assert joined == logs.clean(joined)


@given(st.text())
def test_any_text_becomes_one_visible_line(text):
    """
    Any text: what is written can be encoded, and holds no control character.
    """
    shown = logs.clean(text)
    shown.encode()
    assert 1 >= len(shown.splitlines())
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)


def test_values_are_shortened():
    """
    A peer cannot fill a disk with one line; how much is left out is told.
    """
    found = event(lambda log: log.info("hi", reply="x" * 5000, many=["y" * 5000]))
    expected = "x" * 2048 + "… (2952 more)"
    assert expected == found["reply"]
    assert ["y" * 2048 + "… (2952 more)"] == found["many"]


def test_depth_is_bounded():
    """
    A value nested too deeply, or in itself, is written as text.
    """
    endless = []
    endless.append(endless)
    found = event(lambda log: log.info("hi", endless=endless))
    assert [[[["[[...]]"]]]] == found["endless"]
    endless = {}
    endless["e"] = endless
    found = event(lambda log: log.info("hi", d=endless))
    assert {"e": {"e": {"e": {"e": "{'e': {...}}"}}}} == found["d"]


@pytest.mark.parametrize(
    "key",
    ["password", "PASSWD", "secret", "access_token", "authorization", "apikey"],
)
def test_what_is_called_a_secret_is_hidden(key):
    """
    The name of a field decides, whatever it holds, at any depth.
    """
    found = event(lambda log: log.info("hi", **{key: "hunter2"}, d={key: ["hunter2"]}))
    assert ("(hidden)", {key: "(hidden)"}) == (found[key], found["d"])


def test_a_secret_is_hidden_under_any_name():
    """
    A Secret never shows what it holds.
    """
    found = event(lambda log: log.info("hi", value=Secret("hunter2"), l=[Secret("x")]))
    assert ("(hidden)", ["(hidden)"]) == (found["value"], found["l"])


def test_plain_values_stay_values():
    """
    Numbers, truth and nothing are written as themselves.
    """
    found = event(lambda log: log.info("hi", a=1, b=0.5, c=None, d=False, e={"f": 2}))
    assert (1, 0.5, None, False, {"f": 2}) == tuple(found[key] for key in "abcde")


# -- tracebacks -----------------------------------------------------------------------


def fail():
    hidden = "hunter2"
    message = f"bad\n2026 [info] forged\x1b[1m {len(hidden)}"
    raise ValueError(message)


@pytest.mark.parametrize("format_", [Format.CONSOLE, Format.JSON])
@pytest.mark.parametrize("how", ["error", "true", "foreign"])
def test_a_traceback_shows_code_and_no_variables(format_, how):
    """
    A traceback names the places, hides what the variables hold, and forges no line.
    """

    def tell(log):
        try:
            fail()
        except ValueError as error:
            if how == "foreign":
                logging.getLogger("other").exception("boom")
            else:
                exc_info = error if how == "error" else True
                log.error("boom", exc_info=exc_info)  # noqa: TRY400 -- both ways

    text = written(format_, tell)
    trace = json.loads(text)["exception"] if format_ is Format.JSON else text
    lines = trace.splitlines()[0 if format_ is Format.JSON else 1 :]
    assert all(line.startswith("  | ") for line in lines)
    assert "in fail" in trace
    assert r"  | 2026 [info] forged\x1b[1m 7" in lines
    assert "hunter2" not in trace.replace('hidden = "hunter2"', "")
    assert "\x1b" not in text


def test_a_long_traceback_keeps_its_end():
    """
    The end of a traceback says what happened.
    """
    error = ValueError("x" * 20000 + "END")
    found = event(lambda log: log.error("boom", exc_info=error))
    assert logs.LONGEST_TRACEBACK + len("  | ") == len(found["exception"])
    assert found["exception"].endswith("END")


def test_no_traceback_where_there_is_no_exception():
    """
    exc_info without an exception adds nothing.
    """
    found = event(lambda log: log.error("boom", exc_info=True))  # noqa: LOG014
    assert "exception" not in found
    assert "exc_info" not in found


def test_a_broken_stream_is_borne(capsys):
    """
    A log that cannot be written stops nothing, and complains nowhere else.
    """
    stream = io.StringIO()
    logs.configure("info", Format.JSON, stream=stream, environ={})
    stream.close()
    logs.get().info("hi")
    assert ("", "") == capsys.readouterr()


def test_what_nobody_hears_loads_nothing():
    """
    Structlog comes with the first line that is written, or when it is asked for.
    """
    code = (
        "import sys; from popfetchd import logs; seen = []\n"
        "look = lambda: seen.append('structlog' in sys.modules)\n"
        "logs.set_up('info', 'json', {}); log = logs.get()\n"
        "log.debug('quiet'); look(); LOAD; look(); print(*seen)"
    )
    for load in ("logs.load()", "log.info('heard')"):
        words = [sys.executable, "-c", code.replace("LOAD", load)]
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        assert "False True\n" == done.stdout


def test_a_line_that_cannot_be_loaded_is_borne(monkeypatch):
    """
    Mail comes first: where no file can be opened any more, nothing is logged.
    """
    monkeypatch.setitem(sys.modules, "popfetchd.lines", None)
    monkeypatch.delattr("popfetchd.lines", raising=False)
    assert "" == written(Format.JSON, lambda log: log.error("lost"))
    assert "" == written(Format.JSON, lambda _: logging.getLogger("other").error("too"))


# -- what nobody caught ---------------------------------------------------------------


@pytest.fixture
def hooks(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.catch_uncaught()


def raised(error):
    return type(error), error, error.__traceback__


def test_an_uncaught_exception_is_a_line(hooks):
    """
    What ends the main thread is told in the log's own shape.
    """
    found = event(lambda _: sys.excepthook(*raised(ValueError("lost"))))
    assert ("critical", "uncaught exception") == (found["level"], found["event"])
    assert "ValueError: lost" in found["exception"]


def test_an_interrupt_is_no_fault(hooks, monkeypatch):
    """
    Ctrl-C goes the usual way.
    """
    seen = []
    monkeypatch.setattr(sys, "__excepthook__", lambda *args: seen.append(args[0]))
    nothing = written(
        Format.JSON, lambda _: sys.excepthook(*raised(KeyboardInterrupt()))
    )
    assert ("", [KeyboardInterrupt]) == (nothing, seen)


def test_an_uncaught_exception_of_a_thread_is_a_line(hooks):
    """
    What ends a thread is told with the thread's name; an exit is none.
    """

    def run(target):
        thread = threading.Thread(target=target, name="visit-alice")
        thread.start()
        thread.join()

    def tell(_log):
        run(fail)
        run(sys.exit)
        args = (*raised(ValueError("late")), None)
        threading.excepthook(threading.ExceptHookArgs(args))

    first, second = map(json.loads, written(Format.JSON, tell).splitlines())
    assert ("visit-alice", None) == (first["thread"], second["thread"])
    assert "ValueError: late" in second["exception"]


# -- journald -------------------------------------------------------------------------


def test_journald_is_told_the_priority(tmp_path):
    """
    Where the stream itself is the journal's, each line begins with its priority.
    """
    with (tmp_path / "journal").open("w+") as stream:
        seen = os.fstat(stream.fileno())
        journal = {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}

        def tell(log):
            log.info("hi")
            log.error("boom", exc_info=ValueError("a\nb"))

        logs.configure("info", Format.CONSOLE, stream=stream, environ=journal)
        tell(logs.get())
        stream.seek(0)
        lines = stream.read().splitlines()
    assert ["<6>", "<3>", "<3>", "<3>"] == [line[:3] for line in lines]


def test_a_redirected_stream_is_not_the_journal(tmp_path):
    """
    JOURNAL_STREAM of a parent says nothing about a file.
    """
    with (tmp_path / "log").open("w+") as stream:
        logs.configure(
            "info", Format.JSON, stream=stream, environ={"JOURNAL_STREAM": "1:1"}
        )
        logs.get().info("hi")
        stream.seek(0)
        assert stream.read().startswith("{")


def test_logging_works_in_a_process_of_its_own():
    """
    Configured as the service does it, a line goes to standard error and nowhere else.
    """
    code = (
        "import os, sys; from popfetchd import logs; "
        "logs.configure('info', logs.Format.AUTO, stream=sys.stderr, environ={}); "
        "logs.catch_uncaught(); logs.get().info('hi'); raise ValueError('lost')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True
    )
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert (["hi", "uncaught exception"], "") == (events, done.stdout)
