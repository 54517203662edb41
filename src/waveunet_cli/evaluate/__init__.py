"""How good separations are: BSSEval v4, SI-SDR and whole songs' SDR, and the statistics of the paper.

    from waveunet_cli.evaluate import evaluate
    scores = evaluate(Path("musdb18hq"), Separator("vocals"), quick=True)
    for score in scores.stems:
        print(score.song, score.stem, score.sdr)

Source: Stoller, Ewert & Dixon, "Wave-U-Net", ISMIR 2018, sections 4.3 and 5: what silent frames do to means, and why
medians and median absolute deviations stand beside them.
"""

from waveunet_cli.evaluate.run import Scores, SongScored, evaluate

__all__ = ["Scores", "SongScored", "evaluate"]
