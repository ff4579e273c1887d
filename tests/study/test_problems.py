"""Nonsense in experiments.toml: one clear sentence each, with the nearest valid name."""

import tomllib
from pathlib import Path

import pytest

from flowlab.core.errors import FlowlabError, MissingError, StudyError
from flowlab.study.study import build_study, load_study
from tests.lab.small_study import small_text


def problem(folder, content):
    (folder / "experiments.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FlowlabError) as raised:
        load_study(folder)
    message = str(raised.value)
    assert "\n" not in message
    assert "pydantic" not in message
    assert "Input should" not in message
    assert message.endswith((".", ")"))
    return message


def test_the_good_file_is_good(tmp_path, good_text):
    (tmp_path / "experiments.toml").write_text(good_text)
    assert load_study(tmp_path).levers == ("delta-off",)


# (what is replaced in the good text, by what, what the sentence must hold)
FULL_GAS = 'channel = "gas"\nabove = 0.5\nslots = "all"'
SLICE = "[slices.mine]\n{}\n[split]"
EDITS = [
    # unknown keys, at every depth
    ("[split]", "[contrl]\n[split]", "unknown key 'contrl': did you mean 'control'? Known: cache, control, drives"),
    (
        'name = "demo"',
        'nmae = "demo"',
        "unknown key 'nmae' in [study]: did you mean 'name'? Known: name, primary, rule, stacked.",
    ),
    ('slice = "spike_frame"', 'slce = "x"', "unknown key 'slce' in [study.primary]: did you mean 'slice'?"),
    (
        "count = 4",
        "coutn = 4",
        "unknown key 'coutn' in [drives]: did you mean 'count'? Known: count, hz, seconds, seed",
    ),
    ("num_val = 1", "num_vla = 1", "unknown key 'num_vla' in [split]: did you mean 'num_val'?"),
    ("[split]", "[windows]\nhorizn = 6\n[split]", "'horizn' in [windows]: did you mean 'horizon'?"),
    ("[split]", "[encoder]\nwidht = 6\n[split]", "'widht' in [encoder]: did you mean 'width'?"),
    ("[split]", "[cache]\nvariant = []\n[split]", "'variant' in [cache]: did you mean 'variants'?"),
    (
        "delta_weight = 10.0",
        "delta_wieght = 1.0",
        "'delta_wieght' in [control.objective]: did you mean 'delta_weight'?",
    ),
    ("[control.objective]", "[control.objectiv]", "unknown key 'objectiv' in [control]: did you mean 'objective'?"),
    (
        "alpha = 0.5",
        "alhpa = 0.5",
        "'alhpa' in [control.objective.lds]: did you mean 'alpha'? Known: alpha, cap, cap_on, channel_alpha, edges.",
    ),
    (
        "lds = {",
        "flow_time = { std = 1, men = 0 }\nlds = {",
        "'men' in [control.objective.flow_time]: did you mean 'mean'",
    ),
    ('set = { "obj', 'tag = []\nset = { "obj', "unknown key 'tag' in [levers.delta-off]: did you mean 'tags'?"),
    ("judged_seeds = [", "judge_seeds = [", "unknown key 'judge_seeds' in [rules.panel]: did you mean 'judged_seeds'?"),
    ("margin = 0.004", "margn = 0.004", "'margn' in [rules.panel.guardrails[0]]: did you mean 'margin'?"),
    ('"objective.delta_weight" = 0.0', '"objective.delta_wieght" = 0.0', "did you mean 'objective.delta_weight'?"),
    ('"objective.delta_weight" = 0.0', '"delta_weight" = 0.0', "did you mean 'objective.delta_weight'?"),
    (
        '"objective.delta_weight" = 0.0',
        '"train.lr.fast" = 0.0',
        "unknown key 'train.lr.fast' in levers.delta-off.set: did you mean 'train.lr'?",
    ),
    # unknown names
    ('source = "carracing"', 'source = "carrace"', "unknown source 'carrace': did you mean 'carracing'?"),
    ("[split]", '[encoder]\nkind = "drive-vet"\n[split]', "unknown encoder 'drive-vet': did you mean 'drive-vit'?"),
    ('rule = "panel"', 'rule = "panle"', "unknown rule 'panle' in study.rule: did you mean 'panel'? Known: panel."),
    (
        'slice = "spike_frame"',
        'slice = "spike_fram"',
        "unknown slice of l1 'spike_fram' in study.primary: did you mean 'spike_frame'",
    ),
    ('slice = "spike_frame"', 'slice = "slot:7"', "did you mean 'slot:6'?"),
    ('slice = "spike_frame"', 'slice = "spike_frame:drive:a"', "unknown slice of l1 'spike_frame:drive:a'"),
    (
        'slice = "spike_frame"',
        'slice = "slot:1", metric = "chunk_mean_l1"',
        "unknown slice of chunk_mean_l1 'slot:1' in study.primary: Known",
    ),
    (
        'slice = "spike_frame"',
        'slice = "overall", metric = "maneuver_l1", channel = ""',
        "taken per channel. Name one: gas",
    ),
    (
        'slice = "spike_frame"',
        'slice = "drive:b"',
        'a drive is not part of the slice\'s name. Write slice = "overall", drive = "b".',
    ),
    (
        'slice = "spike_frame"',
        'slice = "spike_frame", drive = "b"',
        "study.primary names drive 'b' and l1 on spike_frame; a rule may look at one drive only with",
    ),
    ('slice = "spike_frame"', 'slice = "overall", drive = ""', "study.primary.drive: got the text '', expected a text"),
    # slices
    (
        "[split]",
        SLICE.format('channel = "steering"\nslots = "any"'),
        "give a bound: above, below, size_above or size_be",
    ),
    ("[split]", SLICE.format('channel = "steering"\nabove = 0.5'), "slices.mine.slots is missing."),
    (
        "[split]",
        SLICE.format('channel = "steering"\nabove = 0.5\nslots = "al"'),
        "slices.mine.slots: got the text 'al': did you mean 'all'? Expected 'any', 'all' or 'each'.",
    ),
    (
        "[split]",
        SLICE.format('channel = "steering"\nsize_over = 0.5\nslots = "all"'),
        "unknown key 'size_over' in [slices.mine]: did you mean 'size_above'? Known: above, below, channel, size_above",
    ),
    (
        "[split]",
        SLICE.format('channel = "steer"\nabove = 0.5\nslots = "all"'),
        "unknown channel 'steer' in slices.mine: did you mean 'steering'? Known: brake, gas, steering.",
    ),
    (
        "[split]",
        SLICE.format('channel = "gas"\nabove = 0.5\nslots = "all"'),
        "unknown slice of l1 'spike_frame' in study.primary: Known: mine, overall, slot:1",
    ),
    (
        "[split]",
        SLICE.format(FULL_GAS).replace("slices.mine", 'slices."sl:ot"'),
        "slices.sl:ot: a slice is named by letters, digits, _ and -, up to 64 of them. Rename 'sl:ot'.",
    ),
    (
        "[split]",
        SLICE.format(FULL_GAS).replace(".mine", ".overall"),
        "slices.overall: the name 'overall' is taken. Give",
    ),
    ('slice = "flat_frame"', 'slice = "flat"', "slice of l1 'flat' in rules.panel.guardrails[0]: did you mean 'flat_"),
    (
        'slice = "spike_frame"',
        'slice = "overall", metric = "L2"',
        "unknown metric 'L2' in study.primary: Known: chunk_mean_correlation, chunk_mean_l1, l1",
    ),
    (
        'slice = "spike_frame"',
        'slice = "overall", readout = "mean"',
        "did you mean 'meank'? Known: meank, mediank, mode,",
    ),
    (
        'slice = "spike_frame"',
        'slice = "overall", readout = "single-mean", metric = "chunk_mean_correlation", direction = "higher"',
        "the readout 'single-mean' is a mean of errors and no chunk, so it has no chunk_mean_correlation. Name another "
        "readout: single, meank, mediank.",
    ),
    (
        'slice = "spike_frame"',
        'slice = "spike_frame", metric = "maneuver_slot_l1"',
        "unknown slice of maneuver_slot_l1 'spike_frame' in study.primary: Known: overall.",
    ),
    (
        'slice = "spike_frame"',
        'slice = "overall", channel = "steer"',
        "did you mean 'steering'? Known: brake, gas, steering",
    ),
    (
        'preset = "panel"',
        'preset = "pannel"',
        "rules.panel.preset: got the text 'pannel': did you mean 'panel'? Expected",
    ),
    (
        "[split]",
        '[cache]\nvariants = ["normal", "nohist"]\n[split]',
        "cache.variants[1]: got the text 'nohist': did you mean",
    ),
    ("num_val = 1", 'num_val = 1\nscale = "plot"', "split.scale: got the text 'plot': did you mean 'pilot'? Expected"),
    # wrong types
    ("count = 4", 'count = "4"', "drives.count: got the text '4', expected a whole number."),
    ("count = 4", "count = 4.0", "drives.count: got 4.0, expected a whole number."),
    ("count = 4", "count = true", "drives.count: got true, expected a whole number."),
    ("count = 4", "count = [4]", "drives.count: got [4], expected a whole number."),
    ("count = 4", "count = 2020-01-01", "drives.count: got the date or time 2020-01-01, expected a text or a number."),
    ("delta_weight = 10.0", "delta_weight = true", "control.objective.delta_weight: got true, expected a number."),
    ("delta_weight = 10.0", "delta_weight = nan", "control.objective.delta_weight: got nan, expected a finite number."),
    (
        "delta_weight = 10.0",
        "delta_weight = -inf",
        "control.objective.delta_weight: got -inf, expected a finite number.",
    ),
    (
        'source = "carracing"',
        'source = ["carracing"]',
        "drives: source must be a text in quotes, such as 'carracing', 'udacity', 'lerobot', 'synthetic'.",
    ),
    ('name = "demo"', "name = 3", "study.name: got 3, expected a text in quotes."),
    (
        'primary = { slice = "spike_frame" }',
        'primary = "spike"',
        "study.primary: got the text 'spike', expected a table.",
    ),
    ("lds = { alpha = 0.5 }", "lds = 0.5", "control.objective.lds: got 0.5, expected a table."),
    (
        "[control.objective]",
        "[control.train]\nbetas = [0.9]\n[control.objective]",
        "control.train.betas[1] is missing.",
    ),
    ("[control.objective]", "[control.action_space]\nmerge = 1\n[control.objective]", "got 1, expected true or false."),
    ("[1001, 1002]", "1001", "rules.panel.judged_seeds: got 1001, expected a list."),
    ("[1001, 1002]", '["1001"]', "rules.panel.judged_seeds[0]: got the text '1001', expected a whole number."),
    ("[1001, 1002]", "[true, 1002]", "rules.panel.judged_seeds[0]: got true, expected a whole number."),
    ("num_val = 1", 'val = "lake_a"', "split.val: got the text 'lake_a', expected a list."),
    ('set = { "objective.delta_weight" = 0.0 }', "set = 3", "levers.delta-off.set: got 3, expected a table."),
    ('set = { "objective.delta_weight" = 0.0 }', 'hypothesis = "x"', "levers.delta-off.set is missing."),
    # values out of range
    ("count = 4", "count = 0", "drives.count: got 0, expected 1 or more."),
    ("count = 4", f"count = {10**30}", "expected an integer of 64 bits."),
    ("count = 4", f"count = {'9' * 5000}", "one of its integers has thousands of digits."),
    ("delta_weight = 10.0", "delta_weight = -1", "control.objective.delta_weight: got -1, expected 0 or more."),
    (
        "[control.objective]",
        "[control.train]\nlr = 0\n[control.objective]",
        "control.train.lr: got 0, expected more than 0.",
    ),
    (
        "[control.objective]",
        "[control.decoder]\ndropout = 1.0\n[control.objective]",
        "got 1.0, expected less than 1.",
    ),
    (
        "[control.objective]",
        "[control.decoder]\nheads = 3\n[control.objective]",
        "control.decoder: width 256 must be a mul",
    ),
    ("num_val = 1", "", "split: give either val (names of drives) or num_val (a number) or val_per"),
    ("num_val = 1", 'val = ["a", "b", "a"]', "split: val names a twice."),
    ("num_val = 1", "val = []", "split.val: got [], expected a list of at least 1."),
    ("[split]", '[cache]\nvariants = ["no-history"]\n[split]', "cache: variants must hold 'normal'"),
    (
        'name = "demo"',
        'name = "My Demo"',
        "study.name: got the text 'My Demo', expected small letters and digits joined by",
    ),
    ("[levers.delta-off]", "[levers.delta_off]", "levers.delta_off: got the text 'delta_off', expected small letters"),
    ("[levers.delta-off]", "[levers.control]", "a lever cannot be named 'control'"),
    # seeds and rules
    ("[1001, 1002]", "[1001]", "stage 'stack' needs 2 judged seeds, judged_seeds has 1. Add seeds to judged_seeds."),
    ("[1001, 1002]", "[9, 1002]", "pairs lever and control at seed 9, which is not in panel_seeds. Add it there."),
    ("[1001, 1002]", "[1001, 1001]", "rules.panel: judged_seeds names 1001 twice."),
    ("[1001, 1002, 1003]", "[1001, 1002, 1001]", "rules.panel: panel_seeds names 1001 twice."),
    ("[1001, 1002, 1003]", "[1001]", "rules.panel.panel_seeds: got [1001], expected a list of at least 2."),
    (
        "[1001, 1002]",
        f"[1001, {2**63 - 1}]",
        "rules.panel.judged_seeds[1]: got 9223372036854775807, expected 999999999999999999 or less.",
    ),
    ("[1001, 1002]", "[-1, 1002]", "rules.panel.judged_seeds[0]: got -1, expected 0 or more."),
    ('preset = "panel"', "", "rules.panel: give either a preset or stages, and not both."),
    ("margin = 0.004", "margin = 0", "rules.panel.guardrails[0].margin: got 0, expected more than 0."),
    (
        "margin = 0.004 }",
        'margin = 1 }, { slice = "flat_frame", margin = 2 }',
        "guardrails names l1 steering flat_frame mea",
    ),
    # settings that fit nothing
    (
        "delta_weight = 10.0",
        'kind = "regresion"',
        "unknown objective 'regresion' in control: did you mean 'regression'?",
    ),
    ("[levers.delta-off]", '[control.decoder]\nkind = "mlp"\n[levers.delta-off]', "unknown decoder 'mlp' in control:"),
    (
        '"objective.delta_weight" = 0.0',
        '"decoder.horizon" = 7',
        "levers.delta-off has decoder.horizon 7, and a chunk has windows.horizon 6 slots only.",
    ),
    (
        '"objective.delta_weight" = 0.0',
        '"decoder.image_tokens" = true',
        "levers.delta-off has decoder.image_tokens, and the encoder makes none. Set encoder.image_grid",
    ),
    (
        "[split]\nnum_val = 1\n\n[control.objective]",
        '[split]\nnum_val = 1\n[cache]\nvariants = ["normal"]\n'
        "[control.train]\nhistory_dropout = 0.1\n[control.objective]",
        "control has train.history_dropout, which needs the variant 'no-history'. Add it to cache.variants.",
    ),
    (
        "lds = { alpha = 0.5 }",
        "lds = { channel_alpha = { gas = 1.0 } }",
        "unknown model channel 'gas' in control.objective.lds.channel_alpha: Known: longitudinal, steering.",
    ),
    (
        "delta_weight = 10.0",
        'flow_time = { kind = "uniform", std = 2.0 }',
        "control.objective.flow_time.std does nothing here: only the flow time 'logit-normal' has it. Leave it out.",
    ),
    (
        "delta_weight = 10.0",
        'kind = "regression"\ncoupling = "optimal-transport"',
        "control.objective.coupling does nothing here: a regression has no flow time and no noise.",
    ),
    (
        '"objective.delta_weight" = 0.0',
        '"action_space.transform" = "chunk-dct", "objective.delta_weight" = 0.0',
        "levers.delta-off sets objective.delta_weight, which does nothing here: a delta loss needs several slots",
    ),
    (
        '"objective.delta_weight" = 0.0',
        '"decoder.horizon" = 6',
        "levers.delta-off sets decoder.horizon, which does nothing here: a chunk has windows.horizon 6 slots anyway.",
    ),
    (
        "[split]",
        "[windows]\nhorizon = 1\n[split]",
        "control.objective.delta_weight does nothing here: a delta loss needs several slots",
    ),
    ("[split]", "[encoder]\nimage_grid = 9\n[split]", "encoder: image_grid 9 is finer than the patches of 8 pixels"),
    # levers that are none
    (
        '"objective.delta_weight" = 0.0',
        '"objective.delta_weight" = "off"',
        "sets objective.delta_weight: got the text 'off'",
    ),
    ('"objective.delta_weight" = 0.0', '"decoder.layers" = 2.0', "decoder.layers: got 2.0, expected a whole number."),
    (
        '"objective.delta_weight" = 0.0',
        '"decoder.heads" = 3',
        "levers.delta-off sets decoder: width 256 must be a multiple",
    ),
    (
        '"objective.delta_weight" = 0.0',
        "objective = {}",
        "sets objective to a table, but objective is a table. Set a key",
    ),
    (
        '"objective.delta_weight" = 0.0',
        "objective = 3",
        "sets objective to 3, but objective is a table. Set a key in it",
    ),
    (
        '"objective.delta_weight" = 0.0',
        '"objective.delta_weight" = 0.0, objective = { delta_weight = 1.0 }',
        "levers.delta-off sets objective.delta_weight twice. Keep one of them.",
    ),
    # levers on what a cache is computed from
    ('"objective.delta_weight" = 0.0', '"encoder.widht" = 64', "did you mean 'encoder.width'?"),
    ('"objective.delta_weight" = 0.0', '"drives.cuont" = 5', "did you mean 'drives.count'?"),
    ('"objective.delta_weight" = 0.0', '"split.choise" = "first"', "did you mean 'split.choice'?"),
    ('"objective.delta_weight" = 0.0', '"windows.histroy" = 4', "did you mean 'windows.history'?"),
    ('"objective.delta_weight" = 0.0', '"cache.variant" = ["normal"]', "did you mean 'cache.variants'?"),
    (
        '"objective.delta_weight" = 0.0',
        '"split.choice" = "stratifed"',
        "levers.delta-off sets split.choice: got the text 'stratifed': did you mean 'stratified'?",
    ),
    (
        '"objective.delta_weight" = 0.0',
        '"encoder.options.depth" = 2',
        "levers.delta-off sets unknown key 'options' in [encoder]: ",
    ),
    (
        '"objective.delta_weight" = 0.0',
        '"cache.variants" = ["normal"], "train.history_dropout" = 0.1',
        "levers.delta-off has train.history_dropout, which needs the variant 'no-history'.",
    ),
    ("num_val = 1", 'num_val = 1\nwithout = ["a", "a"]', "split: without names a twice."),
    ("num_val = 1", 'val = ["a"]\nwithout = ["a"]', "split: 'a' is in val and in without; a drive that validates"),
    (
        "[split]",
        '[encoder]\nkind = "my_module:Encoder"\nwidth = 6\n[split]',
        "unknown key 'width' in [encoder]: Known: kind, options.",
    ),
    ("[split]", "[encoder]\nkind = 3\n[split]", 'encoder: kind must be a text in quotes, such as "drive-vit"'),
    (
        'set = { "objective.delta_weight" = 0.0 }',
        'set = {}\nstats = "mine"',
        "levers.delta-off.stats: got the text 'mine'",
    ),
    (
        'source = "carracing"\ncount = 4',
        'source = "udacity"\nroot = "a"\nroots = ["b"]',
        "drives: give either root (one folder) or roots (a list), and not both.",
    ),
    ('source = "carracing"\ncount = 4', 'source = "udacity"\nroot = ""', "root must be a text in quotes, got ''."),
    ('source = "carracing"\ncount = 4', 'source = "udacity"\nroots = []', "got [], expected a list of at least 1."),
    ('source = "carracing"\ncount = 4', 'source = "udacity"\nroots = ["a", "a"]', "drives: roots names a twice."),
    # missing tables
    ('[drives]\nsource = "carracing"\ncount = 4', "", "the table [drives] is missing."),
    ("[split]\nnum_val = 1", "", "the table [split] is missing."),
    ('rule = "panel"', "", "study.rule is missing."),
    ('source = "carracing"\ncount = 4', "", "drives: source must be a text in quotes, such as 'carracing'"),
    # not TOML
    ("count = 4", "count = four", "is not valid TOML: Invalid value (at line 9"),
    ("count = 4", "count = 4\ncount = 5", "is not valid TOML: Cannot overwrite a value (at line 10"),
    ("count = 4", "count = " + "[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("old", "new", "fragment"), EDITS, ids=[f"{i}-{e[1][:24]!r}" for i, e in enumerate(EDITS)])
def test_one_clear_sentence(tmp_path, good_text, old, new, fragment):
    assert good_text.count(old) == 1
    assert fragment in problem(tmp_path, good_text.replace(old, new))


@pytest.mark.parametrize("table", ["split", "drives", "control", "levers", "rules", "study"])
def test_a_table_that_is_none(tmp_path, table, good_text):
    with pytest.raises(StudyError, match=rf"^experiments.toml: {table}: got 3, expected a table\.$"):
        build_study(tmp_path, tomllib.loads(good_text) | {table: 3})


def test_an_unknown_key_comes_before_the_missing_one_it_stands_for(tmp_path):
    assert "'nmae'" in problem(tmp_path, '[study]\nnmae = "demo"')


def test_an_empty_file_lacks_its_first_table(tmp_path):
    assert problem(tmp_path, "") == "experiments.toml: the table [drives] is missing."


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path, good_text):
    text = good_text.replace("[drives]", "# Caf\u00e9\n[drives]").encode("latin-1")
    assert problem(tmp_path, text) == ("experiments.toml is not UTF-8 text: byte 0xe9 in line 7. Save it as UTF-8.")


def test_a_byte_order_mark_is_read_over(tmp_path, good_text):
    (tmp_path / "experiments.toml").write_bytes(b"\xef\xbb\xbf" + good_text.replace("\n", "\r\n").encode())
    assert load_study(tmp_path).name == "demo"


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "experiments.toml").mkdir()
    with pytest.raises(StudyError, match=r"experiments.toml cannot be read: Is a directory\.$"):
        load_study(tmp_path)


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="Not a directory"):
        load_study(tmp_path / "file")


def test_no_file_says_how_to_start_one(tmp_path):
    with pytest.raises(MissingError, match="flowlab init"):
        load_study(tmp_path)


def test_a_warm_up_from_zero_needs_more_than_one_step() -> None:
    text = small_text().replace("steps = 2\n", "steps = 1\n", 1)
    assert "steps = 1\n" in text
    with pytest.raises(StudyError, match=r"^control has train\.steps 1, and a warm-up from zero gives the first step"):
        build_study(Path("/nowhere"), tomllib.loads(text))
