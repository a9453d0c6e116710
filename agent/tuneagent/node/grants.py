"""The node's side of the handshake: what it proposes, and the one grant that it is at work on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from tuneagent.contracts.node_tuning import Grant, OwnTuning, Taken
from tuneagent.contracts.plan import Change
from tuneagent.contracts.values import Disruption
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host.state_folder import StateFolder
from tuneagent.node.log import log
from tuneagent.node.status import Proposal

NAME = "proposal.json"


class Grants:
    """`take` claims a grant at the API server and says whether that held."""

    def __init__(self, state: StateFolder, take: Callable[[OwnTuning, Taken], bool]) -> None:
        self._state = state
        self._take = take
        # First sight of each grant on the monotonic clock: a node whose wall clock is wrong cannot stretch it.
        self.first_seen: dict[str, float] = {}
        self.proposal: Proposal | None = None
        # The grant that we are at work on, as the server has it; cleared with the answer.
        self.taken: Taken | None = None

    def propose(self, proposal: Proposal | None) -> None:
        """Say from now on that this is what we would do; it is kept over a restart."""
        before = self.proposed
        self.proposal = proposal
        if proposal is None:
            self._state.remove(NAME)
        elif proposal != before:
            self._state.replace(NAME, msgspec.json.encode(proposal))

    @property
    def proposed(self) -> Proposal | None:
        """What was proposed last, by this process or the one before it."""
        return self.proposal or self._kept()

    def _kept(self) -> Proposal | None:
        try:
            return msgspec.json.decode(self._state.read_bytes(NAME), type=Proposal)
        except (PathMissing, ReadFailed, msgspec.MsgspecError):
            return None

    def granted(
        self, tuning: OwnTuning | None, changes: Iterable[Change], boot_id: str, *, is_rebooting: bool
    ) -> Disruption | None:
        """Class of change that the operator has granted for these changes; None for live changes only.

        The plan may have shrunk since it was proposed; anything new in it needs a new grant. A grant is taken before
        the first write by a status write that holds only for the object as it was read: from then on the operator waits
        for our answer, and a grant that it took back meanwhile cannot be taken.
        """
        grant = tuning.spec.grant if tuning is not None else None
        disruption = _class_of(grant)
        if tuning is None or grant is None or disruption is None:
            return None
        if grant.boot_id != boot_id:
            log.info("the grant is of another boot", extra={"fields": {"digest": grant.digest}})
            return None
        # The same plan may be granted again later: each grant is an epoch of its own.
        seen = self.first_seen.setdefault(f"{grant.epoch}/{grant.digest}", time.monotonic())
        if time.monotonic() - seen > grant.lifetime_seconds and not is_rebooting:
            log.warning("grant has run out", extra={"fields": {"digest": grant.digest}})
            return None
        proposed = self.proposed
        if proposed is None or proposed.digest != grant.digest or not proposed.covers(changes):
            return None
        mine = Taken(grant.digest, grant.boot_id, grant.epoch)
        if self.taken != mine and not self._take(tuning, mine):
            return None
        self.taken = mine
        return disruption


def _class_of(grant: Grant | None) -> Disruption | None:
    """The class of a grant; None for none, or for one that makes no sense."""
    try:
        return Disruption(grant.disruption) if grant is not None else None
    except ValueError:
        return None
