"""Class c: signals to vram and to its processes, limits of processes, and two commands at once."""

from __future__ import annotations

from typing import Any

from tests.faults.run import Fault
from tests.faults.user_code import CODE, CONFIG, HELPERS

_OWN = CODE.replace("IMPORTED", HELPERS)
for _place in ("READ", "BUILT"):
    _OWN = _OWN.replace(_place, "pass", 1)
FILES = {"c.yaml": CONFIG, "own.py": _OWN.replace("FORWARD", "pass"), "slow.yaml": CONFIG.replace("own:", "slow:")}
FILES["slow.py"] = _OWN.replace("FORWARD", "time.sleep(0.02)")
"""A slow model, of which the trials and the trainings last long enough for a signal amid them."""

CPU = "--device cpu --memory-limit 64MiB"
SEARCH = f"vram find-batch -c slow.yaml {CPU} --set search.max_batch_size=200"
TRAIN = "vram compare -c slow.yaml --device cpu -b 4,16 --epochs 2 --repeats 2 --samples 200"
BASH = r"""
set -m
started() { vram=$!; until worker=$(pgrep -P $vram); do kill -0 $vram || break; sleep 0.05; done; }
said() { for i in $(seq 900); do grep -q "$1" err && break; sleep 0.05; done; }
another() { while pids=$(pgrep -P $vram); [ -z "$pids" ] || [ "$pids" = $worker ]; do sleep 0.05; done; worker=$pids; }
answer() { wait $vram; code=$?; cat out; cat err >&2; [ $code -lt 128 ] || sleep 2; exit $code; }
"""
"""`started` waits for the worker of the vram in the background, `another` for the next worker, `said` for a text on
stderr, `answer` for the end. An import may last two seconds before a worker notices that vram was killed."""


def _meanwhile(name: str, command: str, action: str, **expected: Any) -> Fault:
    command = f"{BASH}{command} >out 2>err &\nstarted; {action}; answer"
    return Fault(name=name, command=command, files=FILES, **expected)


BEFORE = {
    "find-batch": f"vram find-batch {CPU} --set data.source=synthetic",
    "find-batch of own code": f"vram find-batch -c c.yaml {CPU}",
    "breakdown --gpu": "vram breakdown --gpu t4",
    "inspect": "vram inspect",
    "compare": "vram compare -c c.yaml --device cpu -b 8",
}
FROM_OUTSIDE = ("KILL", "TERM", "XCPU", "HUP")
FIRST_RUN = "said '1 of 4'; worker=$(pgrep -P $vram)"
RESUME = f"wait $vram; echo then $?; {TRAIN}; exit"

TWICE = f"{FIRST_RUN}; kill -KILL $worker; another; kill -KILL $worker"
NEVER = "does not fit|Traceback"

FAULTS = [
    *(
        _meanwhile(f"{name}: worker gets {signal} as it starts", command, f"kill -{signal} $worker",
                   code=3, stdout="^$", stderr=f"SIG{signal} is a signal from outside")
        for name, command in BEFORE.items()
        for signal in (FROM_OUTSIDE if name == "find-batch of own code" else FROM_OUTSIDE[:2])
    ),
    *(
        _meanwhile(f"worker gets {signal} as it starts", BEFORE["inspect"], f"kill -{signal} $worker",
                   code=70, stdout="^$", stderr=f"SIG{signal}")
        for signal in ("SEGV", "ABRT")
    ),
    *(
        _meanwhile(f"worker gets {signal} amid a search", SEARCH, f"said fits; kill -{signal} $worker",
                   code=0, stdout="200")
        for signal in ("KILL", "TERM", "SEGV", "ABRT")
    ),
    _meanwhile("worker is stopped amid a search", f"{SEARCH} --set search.trial_timeout=20",
               "said fits; kill -STOP $worker", code=0, stdout="200"),
    _meanwhile("worker is stopped as it starts", f"{SEARCH} --time-limit 8", "kill -STOP $worker",
               code=3, stdout="^$", stderr="the time was over"),
    *(
        _meanwhile(f"vram gets {signal} amid a search", SEARCH, f"said fits; kill -{signal} $vram", code=code)
        for signal, code in {"INT": 130, "TERM": 130, "HUP": 129, "KILL": 137, "QUIT": 131}.items()
    ),
    *(
        _meanwhile(f"vram gets {signal} as its worker starts", SEARCH, f"sleep 0.3; kill -{signal} $vram", code=code)
        for signal, code in {"INT": 130, "TERM": 130, "HUP": 129, "KILL": 137}.items()
    ),
    _meanwhile("vram gets KILL, and its worker is stopped", SEARCH,
               "said fits; kill -STOP $worker; kill -KILL $vram", code=137),
    _meanwhile("the group of vram gets INT", SEARCH, "said fits; kill -INT -$vram", code=130, stdout="Interrupted"),
    _meanwhile("vram gets INT twice", SEARCH, "said fits; kill -INT $vram; sleep 0.1; kill -INT $vram", code=130),
    *(
        _meanwhile(f"trainer gets {signal} once", TRAIN, f"{FIRST_RUN}; kill -{signal} $worker",
                   code=0, stdout="Best validation", stderr="4 of 4", never=NEVER)
        for signal in ("KILL", "TERM")
    ),
    _meanwhile("trainer gets KILL twice, then the command again", TRAIN, f"{TWICE}; {RESUME}",
               code=0, stdout=r"then 3[\s\S]*Best validation", stderr="[12] of 4 runs are already", never=NEVER),
    _meanwhile("trainer is stopped, then the command again", f"{TRAIN} --set search.trial_timeout=15",
               f"{FIRST_RUN}; kill -STOP $worker; {RESUME}",
               code=0, stdout=r"then 3[\s\S]*Best validation", stderr="runs are already", seconds=90),
    _meanwhile("trainer gets SEGV", TRAIN, f"{FIRST_RUN}; kill -SEGV $worker",
               code=(2, 70), stdout="^$", stderr="SIGSEGV"),
    *(
        _meanwhile(f"compare gets {signal}, then the command again", TRAIN,
                   f"{FIRST_RUN}; kill -{signal} $vram; {RESUME}",
                   code=0, stdout=rf"then {code}[\s\S]*Best", stderr="runs are already", seconds=90)
        for signal, code in {"INT": 130, "TERM": 130, "KILL": 137}.items()
    ),
    _meanwhile("two comparisons on one results file", TRAIN.replace("--repeats 2", "--repeats 9"),
               "said '1 of'; vram compare -c c.yaml --device cpu -b 8 --epochs 1; echo second $?",
               code=0, stdout=r"second 2[\s\S]*Best validation", stderr="another `vram compare`"),
    Fault(name="two comparisons on two results files", files=FILES, code=0,
          command=f"{TRAIN} --results 1 & vram compare -c c.yaml --device cpu -b 8 --results 2 && wait $! && ls 1 2"),
    *(
        Fault(name=f"{limit}: {name}", command=f"({limit}; {command}) 2>&1 | cat; exit ${{PIPESTATUS[0]}}", code=code,
              files=FILES)
        for limit, code in {"ulimit -v 1500000": 3, "ulimit -n 12": (0, 3), "ulimit -c 0": 0,
                            "export TMPDIR=/nowhere": 0}.items()
        for name, command in {"breakdown": f"vram breakdown -c c.yaml {CPU}", "inspect": "vram inspect"}.items()
    ),
    Fault(name="ulimit -f: inspect", code=(0, 3),
          command="(ulimit -f 0; vram inspect) 2>&1 | cat; exit ${PIPESTATUS[0]}"),
    Fault(name="ulimit -t: compare", code=(3, 137),
        command="ulimit -t 6; vram compare -c c.yaml --device cpu -b 4 --epochs 9999", files=FILES),
]  # fmt: skip
