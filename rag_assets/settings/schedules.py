"""When things run automatically, and how long their results are kept."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from rag_assets.pipeline.cron import Timetable, comes_due


class ScheduleSettings(BaseModel):
    """Cron expressions in one time zone, and what the schedules and sensors may do."""

    timezone: str = Field(
        default="UTC", description="IANA time zone of all schedules, such as Asia/Tokyo."
    )
    sync_schedule: str = Field(
        default="0 2 * * *",
        description="When a source without its own schedule is synced (cron).",
    )
    sync_grace_minutes: int = Field(
        default=60,
        ge=0,
        json_schema_extra={"unit": "minutes"},
        description="Minutes after its due time at which an unfinished sync counts as late.",
    )
    nightly_check_schedule: str = Field(
        default="0 5 * * *",
        description="When every active source is compared with Milvus in full (cron).",
    )
    nightly_evaluation_schedule: str = Field(
        default="0 6 * * *",
        description="When retrieval is measured for sources that have a retrieval set (cron).",
    )
    quick_check_schedule: str = Field(
        default="*/15 * * * *",
        description="When a sample of every active source is checked (cron).",
    )
    history_schedule: str = Field(
        default="30 3 * * *",
        description="When old versions of documents and unused raw files are deleted (cron).",
    )
    compaction_schedule: str = Field(
        default="0 4 * * 0",
        description="When small embedding files are merged (cron).",
    )
    history_days: int = Field(
        default=365,
        ge=1,
        json_schema_extra={"unit": "days"},
        description="Days for which replaced and deleted versions of documents are kept.",
    )
    repair_attempts: int = Field(
        default=3,
        ge=0,
        json_schema_extra={"unit": "repairs"},
        description="Automatic repairs per finding; 0: no automatic repair.",
    )

    @field_validator(
        "sync_schedule",
        "nightly_check_schedule",
        "nightly_evaluation_schedule",
        "quick_check_schedule",
        "history_schedule",
        "compaction_schedule",
        mode="after",
    )
    @classmethod
    def _check_cron(cls, value: str, info: ValidationInfo) -> str:
        # Defaults are validated too; importing croniter for them would take 50 ms of every command.
        if value == cls.model_fields[info.field_name or ""].default:
            return value
        # Macros such as @daily are for the schedules of sources.
        if len(value.split()) != 5 or not comes_due(value):
            raise ValueError("expected a cron expression of five fields, such as '0 2 * * *'")
        return value

    @field_validator("timezone", mode="after")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("expected an IANA time zone such as Europe/Berlin") from None
        return value


def timetable(settings: ScheduleSettings) -> Timetable:
    """Return the times of all sources' syncs."""
    grace = timedelta(minutes=settings.sync_grace_minutes)
    return Timetable(settings.sync_schedule, settings.timezone, grace)
