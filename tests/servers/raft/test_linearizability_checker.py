"""The simulator's judge itself: every good history has a bad twin."""

from random import Random

from tests.raft_simulator.linearizability import APPEND, CAS, GET, PUT, Op, after, linearizable


def op(kind, value=None, call=0, back=None, *, seen=None, expect=None, ok=True):
    return Op(1, kind, "k", value, expect, call, back, ok if back is not None else None, seen)


class TestGoodAndBadTwins:
    def test_a_read_after_a_write_sees_it(self):
        assert linearizable([op(PUT, "a", 0, 1), op(GET, call=2, back=3, seen="a")])
        assert not linearizable([op(PUT, "a", 0, 1), op(GET, call=2, back=3, seen=None)])

    def test_a_read_beside_a_write_sees_before_or_after(self):
        for seen in ("a", None):
            assert linearizable([op(PUT, "a", 0, 9), op(GET, call=1, back=2, seen=seen)])
        assert not linearizable([op(PUT, "a", 0, 9), op(GET, call=1, back=2, seen="b")])

    def test_a_value_once_read_does_not_vanish_again(self):
        write = op(PUT, "a", 0, 9)
        good = [write, op(GET, call=1, back=2, seen=None), op(GET, call=3, back=4, seen="a")]
        bad = [write, op(GET, call=1, back=2, seen="a"), op(GET, call=3, back=4, seen=None)]
        assert linearizable(good)
        assert not linearizable(bad)

    def test_an_unknown_write_may_take_effect_at_any_time_or_never(self):
        write = op(PUT, "a", 0)
        assert linearizable([write, op(GET, call=8, back=9, seen=None)])
        assert linearizable([write, op(GET, call=5, back=6, seen=None), op(GET, call=8, back=9, seen="a")])
        assert not linearizable([write, op(GET, call=5, back=6, seen="a"), op(GET, call=8, back=9, seen=None)])

    def test_an_unknown_write_cannot_take_effect_before_it_was_asked_for(self):
        read = op(GET, call=1, back=2, seen="a")
        assert linearizable([op(PUT, "a", 0), read])
        assert not linearizable([op(PUT, "a", 3), read])

    def test_appends_are_neither_lost_nor_doubled(self):
        writes = [op(APPEND, "a;", 0, 1), op(APPEND, "b;", 2, 3)]
        assert linearizable([*writes, op(GET, call=4, back=5, seen="a;b;")])
        for wrong in ("a;", "b;a;", "a;b;b;", None):
            assert not linearizable([*writes, op(GET, call=4, back=5, seen=wrong)])

    def test_a_swap_answers_what_it_saw(self):
        write = op(PUT, "a", 0, 1)
        assert linearizable([write, op(CAS, "b", 2, 3, expect="a", ok=True)])
        assert linearizable([write, op(CAS, "b", 2, 3, expect="x", ok=False, seen="a")])
        assert not linearizable([write, op(CAS, "b", 2, 3, expect="x", ok=True)])
        assert not linearizable([write, op(CAS, "b", 2, 3, expect="a", ok=False, seen="a")])
        assert not linearizable([write, op(CAS, "b", 2, 3, expect="x", ok=False, seen="y")])

    def test_a_final_read_makes_an_unknown_swap_visible(self):
        swap = op(CAS, "b", 2, expect="a")
        assert linearizable([op(PUT, "a", 0, 1), swap, op(GET, call=4, back=5, seen="b")])
        assert not linearizable([op(PUT, "c", 0, 1), swap, op(GET, call=4, back=5, seen="b")])


class TestGenerated:
    def history(self, rng: Random) -> list[Op]:
        """Operations that really took effect one after the other, with calls and returns spread around."""
        ops = []
        state = None
        for number in range(12):
            kind = rng.choice((PUT, GET, APPEND, CAS))
            value = None if kind == GET else f"{number};"
            expect = rng.choice((state, "other")) if kind == CAS else None
            at = number * 10
            answered = kind == GET or rng.random() < 0.8
            entry = Op(
                1, kind, "k", value, expect, at - rng.randrange(25), at + rng.randrange(25) if answered else None
            )
            entry.ok = state == expect if kind == CAS else True
            entry.seen = state if kind == GET or (kind == CAS and not entry.ok) else None
            possible, state = after(entry, state)
            assert possible
            ops.append(entry)
        return ops

    def test_what_happened_in_one_order_is_always_accepted(self):
        for seed in range(200):
            assert linearizable(self.history(Random(seed))), seed

    def test_a_read_of_a_value_nobody_wrote_never_is(self):
        for seed in range(200):
            ops = self.history(Random(seed))
            reads = [entry for entry in ops if entry.kind == GET]
            if reads:
                reads[-1].seen = "99;"
                assert not linearizable(ops), seed
