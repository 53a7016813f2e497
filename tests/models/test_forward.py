"""A direct `forward`: logits at every input position, the loss of the kept sequence, loops over one's own cache."""

import copy

import pytest
import torch
from pairs import CASES, CORE, KEEP, OTHER, QUESTION, image
from transformers import StaticCache

CLOSE = {"atol": 3e-4, "rtol": 1e-4}


def keep_of(pair, inputs):
    return pair.stock.keep(inputs, KEEP, CORE)[0]


def oracle_logits(pair, inputs, keep):
    """Stock logits of the masked sequence, each dropped position repeating the nearest kept one before it."""
    mask = inputs["attention_mask"]
    logits = pair.stock.logits(inputs, inputs["input_ids"], mask, keep)
    columns = torch.arange(keep.shape[1])
    nearest = columns.where(keep & mask.bool(), -1).cummax(1).values
    return logits.gather(1, nearest.clamp_min(0)[..., None].expand_as(logits)), nearest >= 0


def stock_forward_inputs(pair, inputs):
    """`forward` counts positions over padding; give both models those of the mask, as `generate` does."""
    return dict(inputs) | {"position_ids": pair.stock.positions(inputs, inputs["input_ids"], inputs["attention_mask"])}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_oracle_at_every_input_position(pair, case):
    inputs = pair.inputs(*CASES[case])
    logits, visible = oracle_logits(pair, inputs, keep_of(pair, inputs))
    found = pair.model(**stock_forward_inputs(pair, inputs)).logits
    assert found.shape == logits.shape
    torch.testing.assert_close(found[visible], logits[visible], **CLOSE)


@pytest.mark.parametrize("asked", [1, 7, torch.tensor([3, 9, 20]), torch.tensor([40, 2])])
def test_logits_to_keep_means_input_positions(pair, asked):
    inputs = stock_forward_inputs(pair, pair.inputs(*CASES["unequal images and questions"]))
    every = pair.model(**inputs).logits
    some = pair.model(**inputs, logits_to_keep=asked).logits
    wanted = every[:, -asked:] if isinstance(asked, int) else every[:, asked]
    torch.testing.assert_close(some, wanted, **CLOSE)


def test_positions_are_the_stock_classs_when_none_are_given(pair):
    inputs = pair.inputs(*CASES["one image"])
    logits, visible = oracle_logits(pair, inputs, keep_of(pair, inputs))
    torch.testing.assert_close(pair.model(**inputs).logits[visible], logits[visible], **CLOSE)


def test_the_loss_is_that_of_the_kept_sequence(pair):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    labels = inputs["input_ids"].clone()
    for token_id in pair.stock.placeholder_ids:
        labels[labels == token_id] = -100
    labels[inputs["attention_mask"] == 0] = -100
    keep = keep_of(pair, inputs)
    logits, _ = oracle_logits(pair, inputs, keep)
    predictions, targets = [], []
    for row in range(len(labels)):
        columns = keep[row].nonzero()[:, 0]
        predictions.append(logits[row, columns[:-1]])
        targets.append(labels[row, columns[1:]])
    loss = torch.nn.functional.cross_entropy(torch.cat(predictions), torch.cat(targets))
    found = pair.model(**stock_forward_inputs(pair, inputs), labels=labels).loss
    torch.testing.assert_close(found, loss, **CLOSE)


def placeholder_labels(pair, inputs):
    """Labels as many collators make them: of all that is no padding, placeholders included."""
    return inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)


def test_a_batch_that_counts_its_own_labels_has_its_own_loss(pair):
    """`num_items_in_batch` counts labels of full sequences; those of dropped tokens make no loss smaller."""
    inputs = pair.inputs(*CASES["unequal images and questions"])
    labels = placeholder_labels(pair, inputs)
    alone = pair.model(**inputs, labels=labels).loss
    items = (labels[:, 1:] != -100).sum()
    for count in (items, int(items)):
        torch.testing.assert_close(pair.model(**inputs, labels=labels, num_items_in_batch=count).loss, alone, **CLOSE)
    twice = pair.model(**inputs, labels=labels, num_items_in_batch=2 * items).loss
    torch.testing.assert_close(2 * twice, alone, **CLOSE)
    nothing = pair.model(**inputs, labels=torch.full_like(labels, -100), num_items_in_batch=items).loss
    assert nothing == 0


def test_a_loss_function_of_the_users_own_is_given_what_the_stock_class_gives_it(pair):
    model = copy.deepcopy(pair.model)
    inputs = pair.inputs(*CASES["one image"])
    expected = model(**inputs, labels=inputs["input_ids"]).loss
    loss = model.loss_function
    model.loss_function = lambda logits, labels, vocab_size: 2 * loss(logits, labels, vocab_size)
    assert torch.equal(model(**inputs, labels=inputs["input_ids"]).loss, 2 * expected)


def test_a_config_that_asks_for_tuples_gets_them_where_the_stock_class_gives_them(pair):
    """Most stock classes of most versions cannot."""
    inputs = pair.inputs(*CASES["one image"])
    expected = pair.model(**inputs).logits
    model, stock = copy.deepcopy(pair.model), copy.deepcopy(pair.stock.model)
    model.config.return_dict = stock.config.return_dict = False
    try:
        assert type(stock(**inputs)) is tuple
    except AttributeError as error:
        with pytest.raises(AttributeError, match="'tuple' object has no attribute"):
            model(**inputs)
        assert "'tuple' object has no attribute" in str(error)
    else:
        found = model(**inputs)
        assert type(found) is tuple and torch.equal(found[0], expected)


def test_shifted_labels_are_packed_as_labels_are(pair):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    labels = placeholder_labels(pair, inputs)
    shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
    expected = pair.model(**inputs, labels=labels).loss
    torch.testing.assert_close(pair.model(**inputs, labels=labels, shift_labels=shifted).loss, expected, **CLOSE)


@pytest.mark.parametrize("how", ["positions", "two rows of positions", "cu_seq_lens_q", "seq_idx"])
def test_samples_packed_into_one_row_are_refused(pair, how):
    """Padding-free training does so, and tells them apart by positions that start again or by more arguments."""
    inputs = {k: v for k, v in pair.inputs(*CASES["text between images"]).items() if k != "attention_mask"}
    length = inputs["input_ids"].shape[1]
    again = torch.cat([torch.arange(9), torch.arange(length - 9)]).expand(2, -1)
    given = {
        "positions": {"position_ids": again},
        "two rows of positions": {"position_ids": again.expand(4, -1, -1)},
        "cu_seq_lens_q": {"cu_seq_lens_q": torch.tensor([0, 9, length])},
        "seq_idx": {"seq_idx": torch.zeros(2, length, dtype=torch.long)},
    }[how]
    for model in (pair.model, pair.model.model):
        with pytest.raises(ValueError, match=rf"{next(iter(given))} say that several samples are packed into one row"):
            model(**inputs, **given)


def test_a_row_that_shows_nothing_but_an_image_is_pruned(pair):
    """Its text is masked, and so is a part of the image, which takes nothing of the budget."""
    inputs = pair.inputs(*CASES["unequal images and questions"])
    spots = inputs["input_ids"][0] == pair.stock.model.config.image_token_id
    shown = spots.nonzero()[-6:, 0]
    inputs["attention_mask"][0] = 0
    inputs["attention_mask"][0, shown] = 1
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)  # stock M-RoPE refuses a mask like this
    given = dict(inputs) | {"position_ids": positions}
    first, _ = pair.model.select_visual_tokens(**given)
    visible = len(spots.nonzero()) - len(shown) + torch.arange(6)
    assert len(first) == round(6 * KEEP / 100) and set(first.tolist()) <= set(visible.tolist())
    keep = torch.zeros_like(spots).scatter(0, spots.nonzero()[first, 0], True)
    with torch.no_grad():
        found = pair.model(**given, labels=inputs["input_ids"])
        row = {k: v.clone() for k, v in given.items()} | {"attention_mask": given["attention_mask"].clone()}
        row["attention_mask"][0] = keep.long()
        row["attention_mask"][1] = pair.stock.keep(pair.inputs(*CASES["unequal images and questions"]), KEEP, CORE)[0][
            1
        ]
        stock = pair.stock.model(**row).logits
    last = int(keep.nonzero().max())
    torch.testing.assert_close(found.logits[0, -1], stock[0, last], **CLOSE)
    assert found.loss.isfinite()


def test_a_training_step_reaches_the_vision_tower_and_lowers_the_loss(pair):
    model = copy.deepcopy(pair.model).train()
    inputs = pair.inputs(*CASES["unequal images and questions"])
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    first = model(**inputs, labels=labels).loss
    first.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert any(g is not None and g.abs().sum() > 0 for n, g in gradients.items() if "vision" in n or "visual" in n)
    assert all(g.isfinite().all() for g in gradients.values() if g is not None)
    torch.optim.SGD(model.parameters(), lr=1e-5).step()
    assert model(**inputs, labels=labels).loss < first


def test_the_cache_and_hidden_states_have_the_pruned_length(pair):
    inputs = pair.inputs(*CASES["one image"])
    out = pair.model(**inputs, output_hidden_states=True, use_cache=True)
    kept = int(keep_of(pair, inputs).sum())
    assert out.past_key_values.get_seq_length() == kept
    assert all(h.shape[1] == kept for h in out.hidden_states)


@pytest.mark.parametrize("masked", ["full", "none"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("case", ["one image", "unequal images and questions", "text between images"])
def test_a_loop_over_forward_equals_the_oracle(pair, case, cache, masked):
    inputs = pair.inputs(*CASES[case])
    steps, columns = 5, inputs["input_ids"].shape[1]
    tokens, scores = pair.stock.generate(inputs, keep_of(pair, inputs), steps)
    past = None
    if cache == "static":
        past = StaticCache(config=pair.model.config.get_text_config(), max_cache_len=columns + steps)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        out = pair.model(**stock_forward_inputs(pair, inputs), past_key_values=past, use_cache=True)
        found = [out.logits[:, -1]]
        for step in range(steps - 1):
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            given = {"attention_mask": mask} if masked == "full" else {}
            out = pair.model(
                input_ids=tokens[:, step : step + 1], past_key_values=out.past_key_values, use_cache=True, **given
            )
            found.append(out.logits[:, -1])
    visible = scores > -1e8
    torch.testing.assert_close(torch.stack(found, 1)[visible], scores[visible], **CLOSE)


@pytest.mark.parametrize("family", ["llava", "llava_next"])  # Qwen2.5-VL has rope_deltas of its own to forget
def test_a_cache_reset_for_text_forgets_its_pruned_prompt(load, family):
    pair = load(family)
    past = StaticCache(config=pair.model.config.get_text_config(), max_cache_len=200)
    pair.model(**pair.inputs(*CASES["one image"]), past_key_values=past)
    past.reset()
    ids = pair.inputs([QUESTION + " " + OTHER + " " + OTHER + " " + OTHER])["input_ids"]
    with torch.no_grad():
        pair.model(input_ids=ids[:, :-1], past_key_values=past, use_cache=True)
        last = pair.model(input_ids=ids[:, -1:], past_key_values=past, use_cache=True).logits[:, -1]
        torch.testing.assert_close(last, pair.stock.model(input_ids=ids).logits[:, -1], **CLOSE)


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_a_cache_reset_for_the_unpruned_prompt_forgets_its_pruned_one(load, family):
    pair = load(family)
    inputs = pair.inputs(*CASES["one image"])
    past = StaticCache(config=pair.model.config.get_text_config(), max_cache_len=200)
    token = inputs["input_ids"][:, -1:]
    with torch.no_grad():
        pair.model(**inputs, past_key_values=past)
        past.reset()
        pair.model(**inputs, past_key_values=past, zspa_keep_ratio=1.0)
        last = pair.model(input_ids=token, past_key_values=past, use_cache=True).logits
        other = StaticCache(config=pair.model.config.get_text_config(), max_cache_len=200)
        pair.stock.model(**inputs, past_key_values=other)
        stock = pair.stock.model(input_ids=token, past_key_values=other, use_cache=True).logits
    torch.testing.assert_close(last, stock, **CLOSE)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_one_row_of_positions_serves_a_model_with_three(load, rows):
    pair = load("qwen2_5_vl")
    inputs = pair.inputs(*[[image(i, (56 + 28 * i, 56)), QUESTION] for i in range(rows)])
    keep = keep_of(pair, inputs)
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    with torch.no_grad():
        found = pair.model(**inputs, position_ids=positions).logits[:, -1]
        given = dict(inputs) | {"attention_mask": (keep & inputs["attention_mask"].bool()).long()}
        stock = pair.stock.model(**given, position_ids=positions.expand(3, -1, -1)).logits[:, -1]
    torch.testing.assert_close(found, stock, **CLOSE)


def test_a_mask_of_another_length_is_refused(pair):
    inputs = pair.inputs(*CASES["one image"])
    out = pair.model(**inputs, use_cache=True)
    with pytest.raises(ValueError, match=r"attention_mask is \(1, 7\)"):
        pair.model(
            input_ids=inputs["input_ids"][:, :1], past_key_values=out.past_key_values, attention_mask=torch.ones(1, 7)
        )


def test_keep_ratio_1_is_the_stock_class(pair):
    inputs = pair.inputs(*CASES["unequal images and questions"])
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    stock, found = pair.stock.model(**inputs, labels=labels), pair.model(**inputs, labels=labels, zspa_keep_ratio=1.0)
    assert torch.equal(stock.logits, found.logits) and torch.equal(stock.loss, found.loss)


def test_text_alone_is_the_stock_class(pair):
    inputs = pair.inputs([QUESTION], [OTHER])
    assert torch.equal(pair.model(**inputs).logits, pair.stock.model(**inputs).logits)


def test_a_tuple_comes_back_where_one_is_asked_for(pair):
    inputs = pair.inputs(*CASES["one image"])
    out = pair.model(**inputs, return_dict=False)
    assert isinstance(out, tuple) and torch.equal(out[0], pair.model(**inputs).logits)


def test_arguments_may_be_given_by_place(pair):
    inputs = pair.inputs([QUESTION])
    assert torch.equal(pair.model(inputs["input_ids"]).logits, pair.model(input_ids=inputs["input_ids"]).logits)


def test_an_image_after_a_filled_cache_is_refused(pair):
    inputs = pair.inputs(*CASES["one image"])
    out = pair.model(**inputs, use_cache=True)
    with pytest.raises(ValueError, match="filled cache"):
        pair.model(**inputs, past_key_values=out.past_key_values)


def test_features_of_the_stock_class_in_its_own_type(pair):
    inputs = pair.inputs(*CASES["one image"])
    given = {k: v for k, v in inputs.items() if k in ("pixel_values", "image_sizes", "image_grid_thw")}
    stock, found = pair.stock.model.get_image_features(**given), pair.model.get_image_features(**given)
    assert type(stock) is type(found)
    lists = [list(getattr(output, "pooler_output", output)) for output in (stock, found)]
    assert all(torch.equal(a, b) for a, b in zip(*lists, strict=True))


def test_image_features_are_selected_when_a_prompt_and_a_pruner_are_given(pair):
    from hf_zspa import ZspaPruner

    inputs = pair.inputs(*CASES["one image"])
    given = {k: v for k, v in inputs.items() if k in ("pixel_values", "image_sizes", "image_grid_thw")}
    visual, prompt = pair.model.visual_and_prompt_tokens(**inputs)
    pruner = ZspaPruner(0.3, 0.4)
    kept, indices = pair.model.get_image_features(**given, visual_token_pruner=pruner, prompt_tokens=prompt)
    assert torch.equal(indices[0], pruner(visual, prompt)[0])
    assert torch.equal(kept[0], visual[0][indices[0]])
