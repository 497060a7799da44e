"""A few hundred simulated clusters, each with troubles of its own; every promise is checked after every step.

``make soak`` plays tens of thousands. The mutants prove that the simulator sees what it is there to see.
"""

import errno
from dataclasses import replace

import pytest

from servers.raft.state_machine import KvStateMachine
from tests.raft_simulator import invariants
from tests.raft_simulator.cluster import Seams, replay, simulate
from tests.raft_simulator.logged_disk import DAMAGE_REFUSED, SURVIVES, LoggedDisk, LyingDisk
from tests.raft_simulator.mutants import MUTANTS
from tests.raft_simulator.profile import Profile, profile_of
from tests.raft_simulator.soak import main, replay_command, seams_of
from tests.raft_simulator.violation import Violation

SEEDS = 300
SEEDS_PER_TEST = 25
# A mutant must be caught within this many seeds; the rarest of them needs about fifty.
SEEDS_PER_MUTANT = 400


def violation_of(seed: int, seams: Seams) -> Violation | None:
    return violation_with(seed, None, seams)


def violation_with(seed: int, profile: Profile | None, seams: Seams) -> Violation | None:
    try:
        simulate(seed, profile, seams)
    except Violation as violation:
        return violation
    return None


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_every_promise_holds_in_seeds_from(first):
    operations = 0
    for seed in range(first, first + SEEDS_PER_TEST):
        try:
            operations += len(simulate(seed, seams=seams_of(None, seed)).history)
        except Violation as violation:
            transcript, _ = replay(seed, seams=seams_of(None, seed))
            tail = "\n".join(transcript[-60:])
            pytest.fail(f"seed {seed} broke {violation}\n{tail}\nreplay: {replay_command(seed)}", pytrace=False)
    assert operations > SEEDS_PER_TEST


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_caught_by_name(name):
    mutant = MUTANTS[name]
    outcomes = (violation_of(seed, mutant.seams) for seed in range(SEEDS_PER_MUTANT))
    caught = next((violation for violation in outcomes if violation), None)
    assert caught is not None, f"survived {SEEDS_PER_MUTANT} seeds"
    assert caught.rule in mutant.caught_by, str(caught)


def test_a_drive_that_lies_about_its_syncs_is_caught():
    """The real log on a drive that does not keep what it said it had."""
    outcomes = (violation_of(seed, Seams(disk=LyingDisk)) for seed in range(50))
    caught = next((violation for violation in outcomes if violation), None)
    assert caught is not None
    assert caught.rule in {SURVIVES, invariants.DURABLE_ON_QUORUM, invariants.MONOTONIC}


class TrustingDisk(LoggedDisk):
    """Its recovery does not look at checksums: a flipped bit goes unnoticed."""

    def _open(self):
        if self._flipped is None:
            return super()._open()
        self.files.flip_bit(*self._flipped)
        try:
            return super()._open()
        finally:
            self.files.flip_bit(*self._flipped)


ONLY_FLIPS = replace(profile_of(0), nodes=3, troubles=("bit flip",))


def test_a_node_with_a_flipped_bit_stays_away_until_it_is_restored_and_the_cluster_goes_on():
    transcript, violation = replay(1, ONLY_FLIPS, Seams(disk=LoggedDisk))
    assert violation is None
    refused = next(line for line in transcript if "refuses to start: /node/" in line)
    assert "is damaged at byte" in refused
    name = refused.split()[1]
    after = transcript[transcript.index(refused) + 1 :]
    assert any(line.split()[1:3] == [name, "starts"] for line in after)


def test_a_recovery_that_overlooks_a_flipped_bit_is_caught():
    with pytest.raises(Violation) as caught:
        simulate(1, ONLY_FLIPS, Seams(disk=TrustingDisk))
    assert caught.value.rule == DAMAGE_REFUSED


class ForgetsClients(KvStateMachine):
    """Forgets a silent client whole, and so applies its late retry again."""

    def apply(self, entry, request=None):
        self._forgotten.clear()
        return super().apply(entry, request)


def test_a_state_machine_that_forgets_silent_clients_is_caught():
    profile = Profile(clients=4, max_sessions=1, drop=0.1)
    outcomes = (violation_with(seed, profile, Seams(machine=ForgetsClients)) for seed in range(30))
    caught = next((violation for violation in outcomes if violation), None)
    assert caught is not None
    assert caught.rule in {invariants.APPLIED_ONCE, invariants.SAME_STATE}
    for seed in range(5):
        assert violation_with(seed, profile, Seams()) is None


def test_disks_fail_with_input_output_errors_and_run_full():
    profile = replace(profile_of(0), troubles=("disk error",))
    told = set()
    for seed in range(8):
        cluster = simulate(seed, profile, Seams(disk=LoggedDisk))
        told |= {node.disk.files.fail_with for node in cluster.nodes.values()}
    assert told == {errno.EIO, errno.ENOSPC}


def test_a_seed_plays_the_same_events_every_time():
    for seed in (3, 4):
        first, second = replay(seed), replay(seed)
        assert first == second
        assert len(first[0]) > 100


def test_seeds_differ_in_everything_they_decide():
    profiles = [profile_of(seed) for seed in range(100)]
    assert {profile.nodes for profile in profiles} == {1, 3, 5}
    assert len({profile.troubles for profile in profiles}) > 20


class TestCommand:
    def test_a_seed_that_holds_ends_with_zero(self, capsys):
        assert main(["--seed", "3"]) == 0
        assert "every promise held" in capsys.readouterr().out

    def test_a_seed_that_fails_prints_its_story_and_how_to_see_it_again(self, capsys):
        assert main(["--seed", "0", "--mutant", "skip fsync"]) == 1
        out = capsys.readouterr().out
        assert "n1 starts with term 0" in out or "earlier lines" in out
        assert "broke persist before send" in out
        assert "replay: python -m tests.raft_simulator --seed 0 --mutant 'skip fsync'" in out

    def test_a_soak_counts_and_names_the_first_failure(self, capsys):
        assert main(["--seeds", "5", "--mutant", "skip fsync"]) == 1
        out = capsys.readouterr().out
        assert "5 broken" in out
        assert "replay: python -m tests.raft_simulator --seed 0" in out
        assert main(["--seeds", "3"]) == 0

    def test_two_processes_play_the_same_seeds(self, capsys):
        assert main(["--seeds", "4", "--jobs", "2"]) == 0
        assert "4 seeds" in capsys.readouterr().out

    @pytest.mark.parametrize("bad", [["--seeds", "0"], ["--jobs", "0"], ["--seed", "x"], ["--mutant", "none"]])
    def test_bad_arguments_are_refused(self, bad, capsys):
        with pytest.raises(SystemExit) as refusal:
            main(bad)
        assert refusal.value.code == 2
