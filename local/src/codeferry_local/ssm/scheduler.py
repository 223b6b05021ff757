"""Carries commands to instances: rate control, delivery, timeouts, cancelling.

A small state machine under one lock. Workers only ever run steps; whatever waits
(for an instance to come back, a free agent slot, a turn under MaxConcurrency)
waits as an entry in a queue and costs no thread.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from codeferry_local.ssm.agent.polling import PollingAgents
from codeferry_local.ssm.agent.steps import Agent
from codeferry_local.ssm.commands import Command, Detail, Invocation, rolled_up
from codeferry_local.ssm.events import Announcer
from codeferry_local.ssm.faults import AGENT_RESTART_SECONDS, Faults
from codeferry_local.ssm.instances import Fleet, LocalInstance, Reason
from codeferry_local.ssm.timers import Timer, Timers

logger = logging.getLogger(__name__)

# CommandWorkersLimit and CommandWorkerBufferLimit of the agent (appconfig/constants.go), and how
# long it waits before it offers a command again that found the buffer full.
AGENT_WORKERS, AGENT_BUFFER, OFFER_SECONDS = 5, 5, 10
_STEPS_AT_ONCE = 32  # over all instances
# What a document's first step shows, with code 0, when its worker has gone without an answer
# (generateUnexpectedFailResult in agent/framework/processor/executer/outofproc/master.go, the
# error of Messaging in messaging/messaging.go beside it).
WORKER_LOST = (
    "document process failed unexpectedly: ipc messaging received timeout signal , "
    "check [ssm-document-worker]/[ssm-session-worker] log for crash reason"
)


@dataclass(kw_only=True, eq=False)
class Scheduler:
    """Runs commands on a fleet; ``announcer`` hears of every change of status.

    ``time_scale`` multiplies every wait (timeouts, delays), never what is reported.
    ``paced``: an instance takes up only so many commands as its agent has workers and room for.
    The next one then stops its only queue of messages until there is room, and cancels behind it
    wait as well (processMessage of mdsinteractor.go); without, nothing waits for room.
    Everything under ``lock`` is consistent for readers, too.
    """

    fleet: Fleet
    faults: Faults
    agent: Agent
    polling: PollingAgents
    announcer: Announcer
    time_scale: float
    paced: bool = False

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.timers = Timers()
        self._pool = ThreadPoolExecutor(_STEPS_AT_ONCE, thread_name_prefix="ssm-agent")
        self._busy: Counter[str] = Counter()
        self._waiting: dict[str, deque[Invocation]] = defaultdict(deque)
        self._running: set[Invocation] = set()
        self._buffered: dict[str, deque[Invocation]] = defaultdict(deque)
        self._held_cancels: dict[str, list[Invocation]] = defaultdict(list)
        self._offering: set[str] = set()
        self._stopped = False
        self.fleet.subscribe(self._look_again)
        self.faults.subscribe(self._look_again)

    def submit(self, command: Command) -> None:
        """Start carrying a command out."""
        with self.lock:
            total = command.timeout_seconds + command.execution_seconds
            command.pending.extend(command.invocations.values())
            command.expiry = self._after(total, self._expire, command)
            self._pump(command)

    def cancel(self, command: Command, instance_ids: Collection[str] = ()) -> None:
        """Cancel the command, or only its invocations on these instances."""
        with self.lock:
            if command.detail.terminal:
                return
            if not instance_ids:
                command.cancelled = True
                command.pending.clear()
                self._change(command, Detail.CANCELLING)
            for invocation in list(command.invocations.values()):
                if not instance_ids or invocation.instance_id in instance_ids:
                    self._cancel(invocation)

    def stop(self) -> None:
        """Kill what runs and end every thread."""
        with self.lock:
            self._stopped = True
            for invocation in self._running:
                invocation.interrupt.set(Reason.STOP)
        self.timers.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _after(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        """Call back under the lock, in so many seconds before ``time_scale``."""

        def call() -> None:
            with self.lock:
                callback(*arguments)

        return self.timers.after(seconds * self.time_scale, call)

    # Rate control

    def _pump(self, command: Command) -> None:
        """Send what MaxConcurrency and MaxErrors allow; not recursive, whatever it sets off."""
        if command.pumping:
            return
        command.pumping = True
        while command.pending and (over := command.errors > command.max_errors) | (
            command.active < command.max_concurrency
        ):
            invocation = command.pending.popleft()
            if over:
                self._settle(invocation, Detail.TERMINATED)
            elif not invocation.detail.terminal:
                self._send(invocation)
        command.pumping = False
        self._roll_up(command)

    def _send(self, invocation: Invocation) -> None:
        command = invocation.command
        command.active += 1
        self._change(command, Detail.IN_PROGRESS)
        self._change_invocation(invocation, Detail.IN_PROGRESS)
        invocation.delivery = self._after(
            command.timeout_seconds, self._give_up_delivery, invocation
        )
        self._attempt(invocation)

    # Delivery

    def _attempt(self, invocation: Invocation) -> None:
        """Start the invocation on its instance, or leave it waiting for what is missing."""
        instance = self.fleet.get(invocation.instance_id)
        if invocation.detail.terminal:
            return
        if instance is None:
            self._settle(invocation, Detail.UNDELIVERABLE)
        elif instance.platform_type not in invocation.command.content.platforms:
            self._settle(invocation, Detail.INVALID_PLATFORM)
        elif self.faults.offline(instance.instance_id):
            self._change_invocation(invocation, Detail.DELAYED)
            self._waiting[instance.instance_id].append(invocation)
        elif not instance.polls and self._busy[instance.instance_id] >= AGENT_WORKERS:
            self._enqueue(invocation)
        elif not self._slowed(invocation):
            self._start(invocation, instance)

    def _enqueue(self, invocation: Invocation) -> None:
        """Leave the invocation to an instance whose workers are all busy."""
        instance_id = invocation.instance_id
        if self.paced and not self._waiting[instance_id] and self._has_room(instance_id):
            self._buffer(invocation)
            return
        self._waiting[instance_id].append(invocation)
        self._offer_later(instance_id)

    def _has_room(self, instance_id: str) -> bool:
        return len(self._buffered[instance_id]) < AGENT_BUFFER

    def _buffer(self, invocation: Invocation) -> None:
        """The agent has it and has acknowledged it: it is delivered."""
        if invocation.delivery is not None:
            invocation.delivery.cancel()
        self._buffered[invocation.instance_id].append(invocation)

    def _offer_later(self, instance_id: str) -> None:
        if self.paced and instance_id not in self._offering:
            self._offering.add(instance_id)
            self._after(OFFER_SECONDS, self._offer, instance_id)

    def _offer(self, instance_id: str) -> None:
        """Offer again what waits for room; when nothing does, the cancels behind it are read."""
        self._offering.discard(instance_id)
        waiting = self._waiting[instance_id]
        while waiting and self._has_room(instance_id):
            invocation = waiting.popleft()
            if not invocation.detail.terminal:
                self._buffer(invocation)
        self._take_up(instance_id)
        if waiting:
            self._offer_later(instance_id)
            return
        for invocation in self._held_cancels.pop(instance_id, ()):
            self._cancel(invocation)

    def _take_up(self, instance_id: str) -> None:
        """Start what is buffered while a worker is free."""
        buffered = self._buffered[instance_id]
        while buffered and self._busy[instance_id] < AGENT_WORKERS:
            self._attempt(buffered.popleft())

    def _slowed(self, invocation: Invocation) -> bool:
        """Whether the start is put off, once, because the instance is slow."""
        delay = self.faults.plan.slow.get(invocation.instance_id, 0)
        if invocation.slowed or not delay:
            return False
        invocation.slowed = True
        self._after(delay, self._attempt, invocation)
        return True

    def _look_again(self) -> None:
        """Instances or faults changed: try what waits, lose what is to be lost."""
        with self.lock:
            if self._stopped:
                return
            for invocation in self._running:
                self._arm_loss(invocation)
            for instance_id in list(self._waiting):
                self._wake(instance_id)

    def _wake(self, instance_id: str) -> None:
        for invocation in self._waiting.pop(instance_id, ()):
            self._attempt(invocation)

    def _give_up_delivery(self, invocation: Invocation) -> None:
        if not invocation.running:
            self._settle(invocation, Detail.DELIVERY_TIMED_OUT)

    def _expire(self, command: Command) -> None:
        """The total timeout: whatever has not answered is taken for undelivered.

        A step that still runs goes on, as it would on an instance out of reach.
        """
        command.pending.clear()
        for invocation in command.invocations.values():
            self._settle(invocation, Detail.DELIVERY_TIMED_OUT)
        self._roll_up(command)

    # Running

    def _start(self, invocation: Invocation, instance: LocalInstance) -> None:
        if self._stopped:
            return
        # An agent that polls has to fetch it first.
        invocation.running = not instance.polls
        self._busy[instance.instance_id] += 1
        self._running.add(invocation)
        self._change_invocation(invocation, Detail.IN_PROGRESS)
        self._arm_loss(invocation)
        self._pool.submit(self._run, invocation, instance)

    def _run(self, invocation: Invocation, instance: LocalInstance) -> None:
        detail: Detail | None = Detail.FAILED
        try:
            if instance.polls:
                detail = self.polling.run(invocation, self.lock)
            else:
                detail = self.agent.run(invocation, instance, self.lock)
        except Exception:
            # An executor's own bug fails its invocation and is in the log.
            logger.exception("Invocation on %s failed in the agent", instance.instance_id)
        with self.lock:
            self._running.discard(invocation)
            self._busy[instance.instance_id] -= 1
            if detail is not None:
                self._settle(invocation, detail)
            self._take_up(instance.instance_id)
            if not self.paced:
                self._wake(instance.instance_id)

    def _arm_loss(self, invocation: Invocation) -> None:
        instance_id, plan = invocation.instance_id, self.faults.plan
        if (after := plan.lost.get(instance_id)) is not None:
            self._after(after, self._lose, invocation)
        if (after := plan.oom.get(instance_id)) is not None:
            self._after(after, self._starve, invocation)

    def _lose(self, invocation: Invocation) -> None:
        if invocation.instance_id in self.faults.plan.lost:
            self._kill_all(invocation)

    def _starve(self, invocation: Invocation) -> None:
        if invocation.instance_id not in self.faults.plan.oom:
            return
        killed = self._kill_all(invocation)
        self._after(AGENT_RESTART_SECONDS, self._restart, invocation.instance_id, killed)

    def _kill_all(self, invocation: Invocation) -> list[Invocation]:
        """The instance is gone, if the invocation still runs there; what ran there with it."""
        if invocation not in self._running:
            return []
        # Offline before anything ends there, or what ends would let the next one start.
        self.faults.lose(invocation.instance_id)
        killed = [i for i in self._running if i.instance_id == invocation.instance_id]
        for running in killed:
            running.interrupt.set(Reason.LOST)
        return killed

    def _restart(self, instance_id: str, killed: Collection[Invocation]) -> None:
        """The agent is back, and fails what it finds half done: no step is run again."""
        for invocation in killed:
            if not invocation.detail.terminal:
                first = invocation.steps[0]
                first.detail, first.stdout, first.output = (
                    Detail.FAILED,
                    WORKER_LOST,
                    WORKER_LOST,
                )
                first.exit_code, first.finished = 0, datetime.now(UTC)
                self._settle(invocation, Detail.FAILED)
        self.faults.come_back(instance_id)

    # Ending

    def _cancel(self, invocation: Invocation) -> None:
        instance_id = invocation.instance_id
        delivered = invocation in self._running or invocation in self._buffered[instance_id]
        if self.paced and delivered and self._waiting[instance_id]:
            self._change_invocation(invocation, Detail.CANCELLING)
            self._held_cancels[instance_id].append(invocation)
        elif invocation in self._running:
            self._change_invocation(invocation, Detail.CANCELLING)
            invocation.interrupt.set(Reason.CANCEL)
        else:
            self._settle(invocation, Detail.CANCELLED)

    def _settle(self, invocation: Invocation, detail: Detail) -> None:
        """The invocation has ended; the first outcome counts."""
        if invocation.detail.terminal:
            return
        command = invocation.command
        if invocation.detail is not Detail.PENDING:
            command.active -= 1
        if invocation.delivery is not None:
            invocation.delivery.cancel()
        command.counts[detail] += 1
        self._change_invocation(invocation, detail)
        self._pump(command)

    def _roll_up(self, command: Command) -> None:
        if command.completed < len(command.invocations) or command.detail.terminal:
            return
        if command.expiry is not None:
            command.expiry.cancel()
        final = rolled_up(
            command.counts, max_errors=command.max_errors, cancelled=command.cancelled
        )
        self._change(command, final)

    def _change(self, command: Command, detail: Detail) -> None:
        before, now = command.detail, detail
        if before.terminal or (before is Detail.CANCELLING and not now.terminal):
            return
        command.detail = now
        if before.status != now.status:
            self.announcer.announce(command, None, self.timers.after)

    def _change_invocation(self, invocation: Invocation, detail: Detail) -> None:
        before, invocation.detail = invocation.detail, detail
        if before.status != detail.status:
            self.announcer.announce(invocation.command, invocation, self.timers.after)
