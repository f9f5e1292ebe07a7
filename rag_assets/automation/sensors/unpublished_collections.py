"""The sensor that publishes a new model's collections as soon as they contain every searchable chunk."""

import dagster as dg

from rag_assets.automation.jobs import publish_collections
from rag_assets.automation.run_requests import INTERVAL, RequestCursor, is_running
from rag_assets.ingestion.publishing import requested_collections
from resources.dagster_resources import EmbedderResource, PostgresResource

#: The cursor has one entry: all collections are published together.
_KEY = "collections"


@dg.sensor(
    job=publish_collections,
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Publishes the collections of a new model once they contain every searchable chunk; after a refusal "
    "of the gate again at growing intervals.",
)
def unpublished_collections_sensor(
    context: dg.SensorEvaluationContext, postgres: PostgresResource, embedder: EmbedderResource
) -> dg.SensorResult | dg.SkipReason:
    cursor = RequestCursor.parse(context.cursor)
    with postgres.open().connect(autocommit=True) as connection:
        requested = requested_collections(connection, embedder.model_target())
    state = " ".join(collection.name for collection in requested)
    if not requested:
        context.update_cursor(cursor.serialize())
        return dg.SkipReason("No collection waits for its publication.")
    is_due = cursor.is_due(_KEY, state)
    if is_running(context.instance, publish_collections.name, {}) or not is_due:
        context.update_cursor(cursor.serialize())
        return dg.SkipReason(f"Requested already: {state}")
    cursor.record_request(_KEY, state)
    context.update_cursor(cursor.serialize())
    # Dagster's own retries of a refused run would only repeat the measurement.
    return dg.SensorResult(run_requests=[dg.RunRequest(tags={"dagster/max_retries": "0"})])
