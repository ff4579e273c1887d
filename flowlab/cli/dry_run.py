"""`flowlab run --dry-run` on a screen."""

from typing import TYPE_CHECKING, Any

from flowlab.cli.screen import out, say, table

if TYPE_CHECKING:
    from flowlab.lab.dry_run import Foreseen

MINUTE_S, HOUR_S = 60, 3600


def print_foreseen(foreseen: "Foreseen") -> None:
    """What would be trained, why, in which cohorts, from which caches, and how long that would take."""
    for note in foreseen.notes:
        say(note)
    waiting, console = foreseen.waiting, out()
    done = len(foreseen.planned) - len(waiting)
    if foreseen.lacking:
        say(
            f"no cache, or no stats of it, is there yet for {', '.join(foreseen.lacking)}: the run would make them "
            f"first, and which of its runs are done cannot be told before"
        )
    rows = [
        [number, item.run.lever, item.run.seed, item.why, cache_id]
        for number, (_, cache_id, items) in enumerate(foreseen.cohorts, start=1)
        for item in items
    ]
    if rows:
        console.print(table(["cohort", "lever", "seed", "why", "cache"], rows))
    kept = f"; the ledger has the other {done}" if done else ""
    workers = len({slot for slot, _, _ in foreseen.cohorts})
    by = f"by {workers} worker{'s' * (workers > 1)}"
    num = f"{len(waiting)} run{'s' * (len(waiting) > 1)}"
    say(f"{num} would be trained {by}{kept}" if waiting else f"nothing to train{kept}")
    if waiting:
        say(f"time: {told_time(foreseen.seconds)}")
    say("nothing was changed (--dry-run)")


def told_time(seconds: float | None) -> str:
    """About how long, for people."""
    if seconds is None:
        return "no run has finished that would tell"
    if seconds >= HOUR_S:
        return f"about {seconds / HOUR_S:.1f} h, by what finished runs took"
    if seconds >= MINUTE_S:
        return f"about {seconds / MINUTE_S:.0f} min, by what finished runs took"
    return f"about {seconds:.0f} s, by what finished runs took"


def foreseen_json(foreseen: "Foreseen") -> dict[str, Any]:
    """The same for a machine."""
    return {
        "runs": [
            {"run_id": item.run.run_id, "lever": item.run.lever, "seed": item.run.seed, "why": item.why}
            for item in foreseen.waiting
        ],
        "done": [item.run.run_id for item in foreseen.planned if item.done],
        "cohorts": [
            {"worker": slot, "cache": cache_id or None, "runs": [item.run.run_id for item in items]}
            for slot, cache_id, items in foreseen.cohorts
        ],
        "lacking": list(foreseen.lacking),
        "seconds": foreseen.seconds,
        "notes": foreseen.notes,
    }
