"""The parts of a new experiments.toml, with {places} for what a draft says."""

HEAD = """\
# A flowlab study: this file says everything about it, and what it makes (caches, runs, the ledger) lands beside it.
#
#   flowlab cache build                                   drives -> frozen encoder -> condition tokens, once
#   flowlab run --lever delta-off --seeds 1001,1002       train and score a lever and the control that it needs
#   flowlab verdict                                       what the rule says

[study]
name = {name}
rule = "climb"  # which of [rules.*] judges
# The number that decides: {lead} error of the {of_draws} of all draws, on {where}.
primary = {{ {primary} }}

"""

WINDOWS = """\
[windows]{about}
history = {history}
horizon = {horizon}
max_gap_s = {max_gap_s}  # no window crosses a longer step

"""

ENCODER = """\
[encoder]  # pretrained on the train drives, then frozen; every run shares its tokens
width = {encoder_width}
image_height = {image_height}
image_width = {image_width}
image_width_tokens = {image_width_tokens}
image_layers = {image_layers}
image_steps = {image_steps}
window_steps = {window_steps}

[cache]
variants = ["normal", "no-history"]  # no-history: the past actions are zeroed before the encoder

"""

SLICES = """\
# Slices: which frames a metric is taken over. Without this table there are flat_frame (every |steering| < 0.05) and
# spike_frame (some |steering| > 0.5), with it those that it defines, and always overall.
#
#   [slices.sharp_right]
#   channel = "steering"
#   above = 0.5  # of the raw action; or below, or size_above and size_below of its size
#   slots = "any"  # some slot of the frame; or all

"""

SELECTION = """\
# Modes: the draws of a frame are two if there is a gap between them. These are the values without the table.
#
#   [selection]
#   channel = "steering"  # whose mean over a chunk tells the modes apart
#   gap = 0.15  # they are two if the largest gap between the sorted draws is wider than this,
#   minority = 0.125  # and the smaller side holds this share of the draws

"""

RANKER = """\
# A ranker of a run's draws: flowlab ranker train RUN. A smaller one is trained in less time.
#
#   [ranker]
#   width = 256  # 512 without the table, as published

"""

KEYBOARD = """\
# Driven by keyboard, a wheel is nearly always straight and a pedal all the way down or up. So the median of the draws
# has the least absolute error, not their mean, and maneuver weights make a policy draw too often what is rare. Three
# keys below are not as published for that reason, and the lever "published" puts them back (docs/decisions/0034).
"""
KEYS = """\
# Driven by keys: each channel is mostly at one of a few values. So the median of the draws has the least absolute
# error, not their mean, and weights on rare moves make a policy draw too often what is rare. Three keys below are not
# as published for that reason, and the lever "published" puts them back (docs/decisions/0034).
"""
XAVIER = 'init = "xavier"  # or "torch", as published\n'
NO_MERGE = """\
[control.action_space]
merge = false  # there are no gas and brake to be merged into one channel

"""

CONTROL = """\
# The control: the recipe that every lever changes. A key left out has the published value.

{why}
[control]
version = 2  # of what is meant by keys that are left out

[control.objective]
delta_weight = {delta_weight}  # weight of the loss on differences along the chunk
lds = {{ alpha = {lds_alpha} }}  # how much more a rare maneuver weighs; 0 is off

{space}[control.decoder]
width = {decoder_width}
layers = {decoder_layers}
{init}
[control.train]
batch = {batch}
steps = {steps}
lr = {lr}
warmup_steps = {warmup_steps}

[control.evaluation]
draws = {draws}  # chunks drawn per validation frame
solver_steps = {solver_steps}
precision = "float16"  # of the draws as they are kept, and scored; without it float32, twice the size

"""

LEVERS = """\
# Levers: one named change to the control each, with the reason to try it.

"""
DELTA_OFF = """\
[levers.delta-off]
set = {{ "objective.delta_weight" = 0.0 }}
hypothesis = "the loss on differences smooths {moves} away"
tags = ["loss", "delta-loss"]
"""
LDS_OFF = """\
[levers.lds-off]
set = {{ "objective.lds.alpha" = 0.0 }}
hypothesis = "weighing rare {what} costs more {between}"
tags = ["loss", "lds"]
"""
PUBLISHED = """\
[levers.published]
set = { "objective.lds.alpha" = 0.5, "objective.delta_weight" = 10.0, "decoder.init" = "torch" }
hypothesis = "what the published recipe does suits these recordings too"
tags = ["loss", "published"]
"""
LR_HALF = """\
[levers.lr-half]
set = {{ "train.lr" = {half_lr} }}
hypothesis = "the control's learning rate is too high"
tags = ["calibration", "optimiser"]
"""
DEPTH_2 = """\
[levers.depth-2]
set = { "decoder.layers" = 2 }
hypothesis = "half the depth is enough for chunks this short"
tags = ["architecture", "size"]
"""
STANDARDISE = """\
[levers.standardise]
set = { "action_space.transform" = "standardise" }
hypothesis = "mean and deviation are enough; quantiles bend what is straight"
tags = ["action-space"]
"""

BACKBONE = """\
# A frozen backbone from Hugging Face in place of the encoder above (pip install 'flowlab[hf]'; cache build --download
# fetches it once). Written as a table [encoder], the same keys give it to all runs.
#
#   [levers.dinov2]
#   hypothesis = "a backbone trained on everything sees more than an encoder trained on these drives alone"
#   tags = ["encoder"]
#
#   [levers.dinov2.set]
#   "encoder.kind" = "huggingface"
#   "encoder.model" = "facebook/dinov2-small"  # or a folder
#   "encoder.pool" = "cls"  # or mean, patches, registers
#   "encoder.image_height" = {height}  # in whole patches, of 14 pixels here
#   "encoder.image_width" = {width}
"""

CLIMB = """\
# The rule. The first flowlab run trains the control at eight seeds, the panel; shows how far they lie apart (sigma)
# and how often the rule would then fool you; and seals its bars, before any lever. A lever is run at one seed after
# the other of the panel: it is dropped once its mean is not better than the panel's by 0.012 to 0.016, and stacks
# once it is by much more. Until they are sealed you may change the bars: bars = "sigma" makes them multiples of
# sigma, and needs eight calibration_seeds more.

[rules.climb]
preset = "climb"
panel_seeds = [1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008]
"""
CLIMB_IN_SIGMA = """\
# The rule. The first flowlab run trains the control at sixteen seeds; shows how far they lie apart (sigma) and how
# often the rule would then fool you; and seals its bars, before any lever. The first eight are the panel. A lever is
# run at one seed after the other of it: it is dropped once its mean is not better than the panel's by about one
# sigma, and stacks once it is by much more. Bars are multiples of sigma: what a gain in this channel's own unit is
# worth, nobody has said.

[rules.climb]
preset = "climb"
bars = "sigma"
panel_seeds = [1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008]
calibration_seeds = [1009, 1010, 1011, 1012, 1013, 1014, 1015, 1016]
"""
TREE = """\

# The tree: flowlab loop goes through these phases, one after the other, and gives each lever the seeds that the rule
# asks for; --budget 8h makes it end in the morning. A phase may have a budget of its own (runs = 40, minutes = 120).

[[tree.phases]]
name = "first"
levers = [{levers}]

[[tree.phases]]
name = "selection"
kind = "selection"  # no training: the base's draws, read out in other ways
always = true  # whatever the budget

# [[tree.phases]]
# name = "finale"
# kind = "finale"  # the base once with the encoder in the loop, against its cached run
"""
GUARDS = """\
judged_seeds = [1001, 1002, 1003, 1004, 1005, 1006]
# What a lever must not spoil: its mean may exceed the panel's by the margin at most.{of_margins}
guardrails = [
{guards}]
"""
