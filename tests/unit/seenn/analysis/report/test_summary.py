from __future__ import annotations

from collections.abc import Callable

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.summary import summary_rows, verdict

Make = Callable[..., Evaluation]


def test_rows_compare_ann_full_and_early_exit(make_evaluation: Make) -> None:
    assert summary_rows(make_evaluation()) == [
        ("ANN of the same weights", "100.00 %", "–", "1.00 M MACs", "4.00 µJ"),
        ("ANN quantised to as many levels", "–", "–", "1.00 M MACs, 6 bits", "200 nJ"),
        ("spiking (SNN), every step", "75.00 %", "3", "3.00 M additions", "3.00 µJ"),
        ("spiking (SNN), early exit", "75.00 %", "2.00", "2.00 M additions", "2.00 µJ"),
    ]


def test_a_network_without_ann_is_not_compared_with_one(make_evaluation: Make) -> None:
    evaluation = make_evaluation(ann_accuracy=None)
    assert len(summary_rows(evaluation)) == 2
    assert "than the ANN" not in " ".join(verdict(evaluation))


def test_losses_are_said_in_words(make_evaluation: Make) -> None:
    said = verdict(make_evaluation(energy_pj=6e6, accuracy=0.5))
    assert "With early exit the SNN is 50.00 points LESS accurate than the ANN." in said
    more = "By this estimate the SNN needs MORE energy than the ANN: 6.00 µJ against 4.00 µJ, 1.50 times as "
    assert f"{more}much." in said
    assert said[0] == (
        "Early exit answers after 2 steps on average instead of 3 (33 % fewer), 25.00 points LESS accurate."
    )


def test_the_equally_quantised_ann_stands_beside_the_network_whoever_wins(make_evaluation: Make) -> None:
    said = " ".join(verdict(make_evaluation()))
    assert "as the finest neurons tell apart (33, 6 bits), and in integers itself, the SNN needs MORE energy: " in said
    assert "300 nJ against 200 nJ, 1.50 times as much." in said
    assert "the SNN needs less energy: 100 nJ against 200 nJ" in " ".join(
        verdict(make_evaluation(integer_energy_pj=1e5))
    )
    assert not any("quantised" in sentence for sentence in verdict(make_evaluation(ann_accuracy=None)))


def test_the_share_that_spikes_feed_and_the_three_counts_are_said(make_evaluation: Make) -> None:
    means = {"norm": "layer_norm", "act": "gelu"}
    said = verdict(make_evaluation(spiking_mac_share=1.0, running_means=means))
    assert any(
        sentence.startswith("Spikes feed 100.0 % of the MACs behind the first layers. 2 nodes act") for sentence in said
    )
    assert any("100 k events" in s and "200 k set bits" in s and "300 k as unary spikes" in s for s in said)


def test_gains_are_said_in_words(make_evaluation: Make) -> None:
    said = verdict(make_evaluation(ann_accuracy=0.5))
    assert said[0].endswith("(33 % fewer), at the same accuracy.")
    assert "With early exit the SNN is 25.00 points more accurate than the ANN." in said
    assert "By this estimate the SNN needs 50 % less energy than the ANN: 2.00 µJ against 4.00 µJ." in said


def test_equal_figures_are_no_gain(make_evaluation: Make) -> None:
    said = verdict(make_evaluation(ann_accuracy=0.75, energy_pj=4e6))
    assert "With early exit the SNN is exactly as accurate as the ANN." in said
    assert "By this estimate the SNN saves no energy against the ANN: 4.00 µJ against 4.00 µJ." in said


def test_the_energy_is_always_called_an_estimate_with_its_constants(make_evaluation: Make) -> None:
    note = verdict(make_evaluation(ann_accuracy=None, analog_macs=0))[-1]
    assert "estimates for 45 nm hardware: 4.6 pJ per multiply-add (MAC), 0.9 pJ per addition" in note
