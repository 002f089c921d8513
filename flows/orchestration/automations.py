"""Put the project's automations on the Prefect server, in place of those of the same name.

A failed run of a config's deployment is run again once; if that fails too, the web hook of IPA_NOTIFY_URL is told. A
run whose process or machine is gone counts as crashed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture

BROKEN = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
# By the names of the states: a stage that found everything is Cached.
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "NothingNew", "Cached", "Outdated", "Cancelled")}
BEAT = "prefect.flow-run.heartbeat"
SILENCE = timedelta(minutes=3)


def put_automations(configs: Mapping[str, UUID], again: UUID) -> list[str]:
    """Put them for the deployments of these configs, by name, and return sentences about it."""
    wanted = [*(retry_once(name, deployment, again) for name, deployment in configs.items()), call_crashed()]
    url = os.environ.get("IPA_NOTIFY_URL")
    if url:
        wanted.append(tell(again, url))
    said = [put(automation) for automation in wanted]
    return said if url else [*said, "IPA_NOTIFY_URL is not set: nobody is told of a run that failed twice"]


def retry_once(name: str, deployment: UUID, again: UUID) -> Automation:
    # Text, by its kind: Prefect would turn a plain template into JSON, which has no ids.
    failed = {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}
    return Automation(
        name=f"ipa: run a failed {name} again, once",
        description="What was computed is in the store; the second attempt goes on from there.",
        trigger=ends_of(deployment, BROKEN),
        actions=[
            RunDeployment(source="selected", deployment_id=again, parameters={"repeat": failed}, job_variables=None)
        ],
    )


def tell(again: UUID, url: str) -> Automation:
    hook = CustomWebhookNotificationBlock(
        name="ipa", url=url, json_data={"text": "{{subject}}: {{body}}"}, headers=None, cookies=None
    )
    block = hook.save("ipa-notify", overwrite=True)
    assert isinstance(block, UUID)
    body = "{{ flow_run.name }} {{ flow_run.state.name }}: {{ flow_run.state.message }} {{ flow_run|ui_url }}"
    return Automation(
        name="ipa: tell of a retrain that failed twice",
        trigger=ends_of(again, BROKEN),
        actions=[SendNotification(block_document_id=block, subject="IPA retrain failed twice", body=body)],
    )


def call_crashed() -> Automation:
    return Automation(
        name="ipa: a run without a heartbeat has crashed",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            after={BEAT},
            expect={BEAT, *ENDED, *BROKEN},
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, name=None, message=f"no heartbeat for {SILENCE}", force=False)
        ],
    )


def ends_of(deployment: UUID, events: set[str]) -> EventTrigger:
    return EventTrigger(
        posture=Posture.Reactive,
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={
            "prefect.resource.role": "deployment",
            "prefect.resource.id": f"prefect.deployment.{deployment}",
        },
        for_each={"prefect.resource.id"},
        expect=events,
        threshold=1,
        within=timedelta(0),
    )


def put(automation: Automation) -> str:
    """One that a person switched off stays off."""
    try:
        found: Any = Automation.read(name=automation.name)  # a coroutine in an event loop only
    except ValueError:
        automation.create()
        return f"automation made: {automation.name}"
    automation.id = found.id
    automation.enabled = found.enabled
    automation.update()
    return f"automation: {automation.name}" + ("" if found.enabled else " (switched off on the server)")
