"""The engine: rows come and go, and nobody notices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.decoding import Delta, Engine, GenerationSettings, Request
from llmbert.protocols import Condition, LLMBertError, UsageError


def engine(steppers, model, **options):
    return Engine(
        model,
        steppers.begin,
        steppers.end,
        options.pop("decode", steppers.letters),
        padding_id=steppers.padding,
        unknown_id=steppers.unknown,
        **options,
    )


def request(prompt=(), condition=None, **fields):
    return Request(list(prompt), GenerationSettings(**fields), condition)


def ids_of(engine, requests):
    return [handle.ids for handle in engine.run(requests)]


def greedy_by_hand(steppers, model, prompt, max_tokens):
    """argmax of `model.logits` over the whole text, again and again."""
    ids, written = [steppers.begin, *prompt], []
    for _ in range(max_tokens):
        logits = model.logits(torch.tensor([ids]))[0, -1].clone()
        logits[[steppers.padding, steppers.unknown, steppers.begin]] = -torch.inf
        token = int(logits.argmax())
        if token == steppers.end:
            break
        ids.append(token)
        written.append(token)
    return written


MIXED = [
    request([5, 6, 7], seed=1, max_tokens=30),
    request([], seed=2, max_tokens=7, temperature=0.0),
    request([9], seed=3, max_tokens=25, top_p=0.8),
    request([9], seed=3, max_tokens=25, top_p=0.8, logprobs=2),
    request([4, 4], seed=4, max_tokens=40, temperature=0.5, top_k=3),
    request([11, 12, 13, 14], seed=5, max_tokens=12, repetition_penalty=1.3, no_repeat_ngram=2),
    request([5, 6, 7], seed=6, max_tokens=30, typical_p=0.7, min_p=0.02),
    request([5, 6, 7], seed=7, max_tokens=30, stop=("ab", "q")),
    request([8, 8], seed=8, max_tokens=1),
]


class TestWhatIsWritten:
    def test_greedy_is_the_argmax_of_the_whole_text_again_and_again(self, steppers):
        model = steppers.Gru().eval()
        for prompt in ([], [5], [7, 8, 9, 10]):
            got = ids_of(engine(steppers, model), [request(prompt, temperature=0, max_tokens=20)])[0]
            assert got == greedy_by_hand(steppers, model, prompt, 20)
            assert got

    def test_greedy_takes_the_lowest_id_of_equals(self, steppers):
        logits = torch.zeros(10)
        logits[[6, 8]] = 3.0
        got = ids_of(engine(steppers, steppers.fixed(logits)), [request(temperature=0, max_tokens=3)])
        assert got == [[6, 6, 6]]

    def test_begin_padding_and_unknown_are_never_written(self, steppers):
        logits = torch.tensor([9.0, 9.0, 9.0, -9.0, 0.0, 0.0])
        written = ids_of(engine(steppers, steppers.fixed(logits)), [request(max_tokens=200, seed=1)])[0]
        assert set(written) == {4, 5}

    def test_unknown_is_written_where_it_is_allowed(self, steppers):
        logits = torch.tensor([9.0, 9.0, 9.0, -9.0, 0.0, 0.0])
        asked = request(max_tokens=50, seed=1, allow_unknown=True)
        assert steppers.unknown in ids_of(engine(steppers, steppers.fixed(logits)), [asked])[0]

    def test_sampled_tokens_follow_the_distribution(self, steppers):
        logits = torch.tensor([0.0, 0.0, 0.0, -torch.inf, 0.0, 1.0, 2.0])
        written = torch.tensor(ids_of(engine(steppers, steppers.fixed(logits)), [request(max_tokens=4000, seed=3)])[0])
        shares = written.bincount(minlength=7)[4:] / len(written)
        assert torch.allclose(shares, logits[4:].softmax(-1), atol=0.03)

    def test_dropout_does_not_act_and_training_goes_on_afterwards(self, steppers):
        model = steppers.Gru().train()
        model.head.eval()
        asked = [request([5], temperature=0, max_tokens=15)]
        assert ids_of(engine(steppers, model), asked) == ids_of(engine(steppers, steppers.Gru().eval()), asked)
        assert model.training and model.dropout.training and not model.head.training

    def test_each_row_has_its_own_condition(self, steppers):
        def label(value):
            return Condition(label=torch.tensor([value]))

        asked = [request(condition=label(6)), request(condition=label(9)), request(condition=label(steppers.end))]
        asked = [request(each.prompt, each.condition, temperature=0, max_tokens=4) for each in asked]
        assert ids_of(engine(steppers, steppers.table()), asked) == [[6] * 4, [9] * 4, []]


class TestNeighbours:
    @pytest.mark.parametrize("max_batch", [1, 3, 32])
    def test_a_request_gets_the_same_alone_and_in_any_batch(self, steppers, max_batch):
        alone = [ids_of(engine(steppers, steppers.table()), [each])[0] for each in MIXED]
        assert ids_of(engine(steppers, steppers.table(), max_batch=max_batch), MIXED) == alone
        assert alone[2] == alone[3]
        assert len({tuple(each) for each in alone}) >= len(MIXED) - 1

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(MIXED) - 1), st.integers(0, 6)), min_size=1, max_size=8))
    def test_whenever_it_joins(self, steppers, schedule):
        alone = {i: ids_of(engine(steppers, steppers.table()), [MIXED[i]])[0] for i, _ in schedule}
        shared = engine(steppers, steppers.table(), max_batch=3)
        handles = []
        for which, wait in schedule:
            handles.append((which, shared.add(MIXED[which])))
            for _ in range(wait):
                shared.step()
        while shared.step():
            pass
        assert [handle.ids for _, handle in handles] == [alone[which] for which, _ in handles]

    def test_it_does_not_matter_who_is_cancelled_beside_it(self, steppers):
        alone = ids_of(engine(steppers, steppers.table()), [MIXED[0]])[0]
        shared = engine(steppers, steppers.table())
        handles = [shared.add(each) for each in (MIXED[4], MIXED[0], MIXED[2])]
        shared.step()
        handles[0].cancel()
        shared.step()
        handles[2].cancel()
        while shared.step():
            pass
        assert handles[1].ids == alone
        assert [handle.finish for handle in (handles[0], handles[2])] == ["cancelled"] * 2
        assert len(handles[0].tokens) == 1 and len(handles[2].tokens) == 2

    def test_no_row_is_stepped_once_it_has_ended(self, steppers):
        model = steppers.table(spread=0.0)
        shared = engine(steppers, model)
        list(shared.run([request(max_tokens=1 + n, temperature=0) for n in range(4)]))
        # ties: end (3) would win, so nothing at all is written
        assert model.steps == [(1, 1)], "equal prompts are taken in once"
        logits = torch.zeros(8)
        logits[5] = 9.0
        model = steppers.fixed(logits)
        list(engine(steppers, model).run([request(max_tokens=1 + n, temperature=0) for n in range(4)]))
        assert model.steps == [(1, 1), (3, 1), (2, 1), (1, 1)]

    def test_at_most_max_batch_rows_step_at_a_time(self, steppers):
        model = steppers.table()
        list(engine(steppers, model, max_batch=3).run(request(seed=n, max_tokens=9) for n in range(20)))
        assert max(rows for rows, _ in model.steps) <= 3

    def test_run_does_not_read_requests_before_there_is_room(self, steppers):
        read = []

        def source():
            for n in range(1000):
                read.append(n)
                yield request(seed=n, max_tokens=5)

        handles = engine(steppers, steppers.table(), max_batch=2).run(source())
        next(handles)
        assert len(read) < 20
        handles.close()

    def test_nor_while_a_long_one_holds_up_the_others_that_have_ended(self, steppers):
        read = []

        def source():
            for n in range(1000):
                read.append(n)
                yield request(seed=n, max_tokens=1 if n else 300)

        model = steppers.table()
        model.table[:, :, steppers.end] = -torch.inf
        handles = engine(steppers, model, max_batch=2).run(source())
        assert len(next(handles).ids) == 300
        assert len(read) <= 17
        handles.close()


class TestEndings:
    def test_end_token(self, steppers):
        logits = torch.full((8,), -torch.inf)
        logits[steppers.end] = 0.0
        handle = next(engine(steppers, steppers.fixed(logits)).run([request()]))
        assert (handle.finish, handle.ids, handle.text) == ("end", [], "")

    def test_length(self, steppers):
        logits = torch.zeros(8)
        logits[5] = 9.0
        handle = next(engine(steppers, steppers.fixed(logits)).run([request(max_tokens=6, temperature=0)]))
        assert (handle.finish, handle.text) == ("length", "bbbbbb")

    def test_stop_strings_end_the_text_before_them(self, steppers):
        table = torch.full((10, 10, 10), -9.0)
        for last in range(10):  # a b c d e f a b ...
            table[:, last, 4 + (last - 3) % 6 if last >= 4 else 4] = 9.0
        handle = next(engine(steppers, steppers.Table(table)).run([request(temperature=0, stop=("de", "xx"))]))
        assert (handle.finish, handle.text) == ("stop", "abc")
        assert steppers.letters(handle.ids) == "abcde"

    def test_a_stop_string_in_what_was_held_back_to_the_end(self, steppers):
        def decode(ids):  # looks like characters whose last bytes are still to come
            return "\ufffd" * len(ids)

        shared = engine(steppers, steppers.fixed(torch.tensor([0.0, 0, 0, -torch.inf, 1])), decode=decode)
        handle = next(shared.run([request(max_tokens=3, stop=("\ufffd\ufffd",))]))
        assert (handle.finish, handle.text) == ("stop", "")

    def test_a_model_that_allows_nothing_ends_the_text(self, steppers):
        logits = torch.full((8,), -torch.inf)
        logits[steppers.unknown] = 0.0
        for temperature in (0.0, 1.0):
            handle = next(engine(steppers, steppers.fixed(logits)).run([request(temperature=temperature)]))
            assert (handle.finish, handle.ids) == ("end", [])

    def test_predictions_that_are_not_numbers_are_refused(self, steppers):
        with pytest.raises(LLMBertError, match="not numbers"):
            list(engine(steppers, steppers.fixed(torch.full((8,), torch.nan))).run([request()]))


class TestReach:
    @pytest.mark.parametrize("reach", [1, 2, 3, 5, 8])
    @pytest.mark.parametrize("length", [0, 1, 4, 7, 8, 9, 40])
    def test_texts_and_prompts_of_any_length_fit_any_reach(self, steppers, reach, length):
        model = steppers.table(max_length=reach)
        model.table[:, :, steppers.end] = -torch.inf
        prompt = [4 + n % 20 for n in range(length)]
        handles = list(engine(steppers, model).run([request(prompt, max_tokens=30, seed=n) for n in range(3)]))
        assert [len(handle.ids) for handle in handles] == [30] * 3

    def test_it_slides_to_the_begin_token_and_the_last_half(self, steppers):
        seen = []
        model = steppers.table(max_length=6)
        step = model.step

        def spy(ids, state):
            seen.append(ids.tolist())
            return step(ids, state)

        model.step = spy
        model.table[:, :, 3] = -torch.inf
        handle = next(engine(steppers, model).run([request([10, 11], max_tokens=8, temperature=0)]))
        text = [10, 11, *handle.ids]
        assert seen[0] == [[steppers.begin, 10, 11]]
        assert [each[0] for each in seen if len(each[0]) > 1][1:] == [
            [steppers.begin, *text[3:6]],
            [steppers.begin, *text[6:9]],
        ]

    @pytest.mark.parametrize(("max_tokens", "kept"), [(1, 12), (3, 10), (5, 8), (6, 7), (40, 7)])
    def test_of_a_prompt_too_long_as_much_is_read_as_leaves_room(self, steppers, max_tokens, kept):
        model = steppers.table(max_length=13)
        model.table[:, :, steppers.end] = -torch.inf
        asked = request([4 + n % 20 for n in range(60)], max_tokens=max_tokens, temperature=0)
        assert len(ids_of(engine(steppers, model), [asked])[0]) == max_tokens
        # the begin token and so much of the prompt's end, and then a token at a time without sliding
        assert model.steps[: min(max_tokens, 6)] == [(1, kept), *[(1, 1)] * (min(max_tokens, 6) - 1)]

    def test_sliding_does_not_disturb_neighbours_that_do_not_slide(self, steppers):
        model = steppers.table(max_length=12)
        asked = [request([5] * n, seed=n, max_tokens=9 + 5 * n) for n in range(5)]
        alone = [ids_of(engine(steppers, steppers.table(max_length=12)), [each])[0] for each in asked]
        assert ids_of(engine(steppers, model, max_batch=4), asked) == alone

    def test_a_long_prompt_is_taken_in_pieces(self, steppers):
        logits = torch.zeros(1, 1, 40_000)
        steps = []

        class Wide(steppers.Table):
            def step(self, ids, state):
                steps.append(ids.shape[1])
                return logits.expand(ids.shape[0], ids.shape[1], -1), state

        model = Wide(torch.zeros(5, 5, 5))
        model.vocabulary_size = 40_000
        prompt = [7] * 3000
        next(engine(steppers, model).run([request(prompt, temperature=0, max_tokens=1)]))
        assert sum(steps) == 3001 and max(steps) * 40_000 <= 2**24


class TestViews:
    def test_a_stream_gives_what_the_handle_has(self, steppers):
        whole = next(engine(steppers, steppers.table()).run([MIXED[0]]))
        deltas = list(engine(steppers, steppers.table()).stream(MIXED[0]))
        assert "".join(delta.text for delta in deltas) == whole.text
        assert [token for delta in deltas for token in delta.tokens] == whole.tokens
        assert [delta.finish for delta in deltas] == [None] * (len(deltas) - 1) + [whole.finish]
        assert len(deltas) >= len(whole.tokens)

    def test_streams_interleave(self, steppers):
        shared = engine(steppers, steppers.table())
        streams = [shared.stream(each) for each in (MIXED[0], MIXED[4])]
        texts = ["", ""]
        for _ in range(3):
            for n, stream in enumerate(streams):
                texts[n] += next(stream, Delta()).text
        for n, stream in enumerate(streams):
            texts[n] += "".join(delta.text for delta in stream)
        whole = [handle.text for handle in engine(steppers, steppers.table()).run([MIXED[0], MIXED[4]])]
        assert texts == whole

    def test_a_closed_stream_leaves_the_batch(self, steppers):
        shared = engine(steppers, steppers.table())
        stream = shared.stream(MIXED[4])
        next(stream)
        assert shared.active == 1
        stream.close()
        assert shared.active == 0 and shared.step() == []

    def test_log_probabilities_are_the_models_own(self, steppers):
        model = steppers.table()
        asked = request([5, 6], temperature=0.3, top_k=4, seed=2, logprobs=3, max_tokens=10)
        handle = next(engine(steppers, model).run([asked]))
        ids = torch.tensor([[steppers.begin, 5, 6, *handle.ids]])
        expected = model.logits(ids)[0].log_softmax(-1)[2:]
        for token, row in zip(handle.tokens, expected, strict=False):
            assert token.log_probability == pytest.approx(float(row[token.id]), abs=1e-5)
            assert [each for each, _ in token.alternatives] == row.topk(3).indices.tolist()

    def test_no_log_probabilities_unless_asked(self, steppers):
        handle = next(engine(steppers, steppers.table()).run([MIXED[0]]))
        assert all(token.log_probability is None and token.alternatives == () for token in handle.tokens)

    def test_progress_counts_tokens(self, steppers):
        told = []
        shared = engine(steppers, steppers.table(), progress=lambda stage, done, total=None, **rest: told.append(done))
        handles = list(shared.run(MIXED))
        assert told == sorted(told) and told[-1] == sum(len(handle.ids) for handle in handles)

    def test_nothing_keeps_a_gradient(self, steppers):
        model = steppers.Gru()
        shared = engine(steppers, model)
        shared.add(request([5], max_tokens=5))
        shared.step()
        assert not shared._batch.state.hidden.requires_grad


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"temperature": -0.1}, "temperature"),
            ({"temperature": float("nan")}, "temperature"),
            ({"temperature": float("inf")}, "temperature"),
            ({"temperature": "hot"}, "temperature"),
            ({"top_p": 0.0}, "top_p"),
            ({"top_p": 1.01}, "top_p"),
            ({"typical_p": 0.0}, "typical_p"),
            ({"min_p": -0.1}, "min_p"),
            ({"min_p": 1.5}, "min_p"),
            ({"top_k": -1}, "top_k"),
            ({"top_k": 2.5}, "top_k"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"repetition_penalty": 0.0}, "repetition_penalty"),
            ({"repetition_penalty": 5e-324}, "repetition_penalty"),
            ({"frequency_penalty": 1e300}, "frequency_penalty"),
            ({"presence_penalty": float("nan")}, "presence_penalty"),
            ({"no_repeat_ngram": -1}, "no_repeat_ngram"),
            ({"beams": 0}, "beams"),
            ({"seed": -1}, "seed"),
            ({"seed": 2**63}, "seed"),
            ({"stop": ("",)}, "stop"),
            ({"logprobs": True}, "logprobs"),
            ({"beams": 3, "top_k": 5}, "top_k"),
            ({"length_penalty": 3}, "length_penalty"),
            ({"beams": 3, "temperature": 0.7, "min_p": 0.1}, "temperature and min_p"),
        ],
    )
    def test_settings_out_of_range_are_named_in_one_sentence(self, fields, named):
        with pytest.raises(UsageError, match=named) as error:
            GenerationSettings(**fields)
        assert str(error.value).count(". ") == 0 and str(error.value).endswith(".")

    def test_numbers_of_numpy_are_numbers(self):
        assert GenerationSettings(seed=np.int64(3), top_p=np.float32(0.5)).seed == 3

    def test_one_stop_string_needs_no_tuple(self):
        assert GenerationSettings(stop="ab").stop == ("ab",)
        assert GenerationSettings(stop=None).stop == ()
        assert hash(GenerationSettings(stop=["ab", "c"])) == hash(GenerationSettings(stop=("ab", "c")))

    @pytest.mark.parametrize("prompt", [[24], [-1], [5, 999]])
    def test_prompts_outside_the_vocabulary(self, steppers, prompt):
        with pytest.raises(UsageError, match="tokeniser"):
            engine(steppers, steppers.table()).add(request(prompt))
        with pytest.raises(UsageError, match="tokeniser"):
            engine(steppers, steppers.table()).stream(request(prompt))

    def test_beams_are_for_beam_search(self, steppers):
        with pytest.raises(UsageError, match="beam_search"):
            engine(steppers, steppers.table()).add(request(beams=2))


def test_a_prompt_that_nothing_follows_is_refused_before_it_joins(steppers):
    """Who is under way keeps its text, whatever comes of others."""

    def made():
        options = {"padding_id": steppers.padding, "unknown_id": steppers.unknown}
        return Engine(steppers.table(), None, steppers.end, steppers.letters, **options)

    asked = request([5, 6], temperature=0, max_tokens=12)
    (alone,) = ids_of(made(), [asked])
    writing = made()
    handle = writing.add(asked)
    writing.step()
    with pytest.raises(UsageError, match="nothing to begin with"):
        writing.add(request([]))
    while writing.active:
        writing.step()
    assert handle.ids == alone
