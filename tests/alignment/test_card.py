import json

import yaml

from ipa_core.config import AlignmentConfig
from ipa_core.models.wan_vace.card import model_card


def test_card_has_a_readable_head_and_the_whole_config():
    config = AlignmentConfig(beta=60)
    card = model_card(config, base_model="Wan-AI/Wan2.1-VACE-1.3B-diffusers", samples=93)
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
    assert "Trained on 93 preferred videos" in body
    assert AlignmentConfig.model_validate(json.loads(body.split("```json")[1].split("```")[0])) == config


def test_card_of_a_method_that_learns_from_losers_does_not_call_them_preferred():
    card = model_card(AlignmentConfig(method="dpo"), base_model="demo", samples=128)
    assert "Trained on 128 videos, the preferred ones and others of the same clips" in card
