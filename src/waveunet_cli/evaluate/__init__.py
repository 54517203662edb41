"""How good separations are: BSSEval v4, SI-SDR and whole songs' SDR, and the statistics of the paper.

>>> from waveunet_cli import Separator
>>> from waveunet_cli.evaluate import evaluate
>>> print(evaluate(["musdb18hq"], Separator("vocals"), quick=True).table)

Source: Stoller, Ewert & Dixon, "Wave-U-Net", ISMIR 2018, sections 4.3 and 5: what silent frames do to means, and why
medians and median absolute deviations stand beside them.
"""

from waveunet_cli.evaluate.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
