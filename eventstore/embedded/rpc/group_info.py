"""What GetInfo and List tell about a group."""

from math import ceil

from kurrentdbclient.protos.v1 import persistent_pb2

from eventstore.embedded.persistent.consumer import Consumer
from eventstore.embedded.persistent.group import Group

Info = persistent_pb2.SubscriptionInfo


def describe(group: Group) -> Info:
    """Return a snapshot."""
    settings = group.settings
    last_known = group.source.last_known
    info = Info(
        event_source=settings.stream,
        group_name=settings.name,
        status=_status(group),
        average_per_second=group.rate,
        total_items=group.total_items,
        count_since_last_measurement=group.total_items - group.measured_items,
        resolve_link_tos=settings.resolve_links,
        start_from=settings.position_text(settings.start),
        message_timeout_milliseconds=settings.message_timeout,
        extra_statistics=settings.extra_statistics,
        max_retry_count=settings.max_retries,
        live_buffer_size=settings.live_buffer,
        buffer_size=settings.history_buffer,
        read_batch_size=settings.read_batch,
        check_point_after_milliseconds=settings.checkpoint_after,
        min_check_point_count=settings.min_checkpoint_count,
        max_check_point_count=settings.max_checkpoint_count,
        read_buffer_count=len(group.buffer),
        live_buffer_count=0,
        retry_buffer_count=len(group.retries),
        total_in_flight_messages=sum(consumer.in_flight for consumer in group.consumers),
        outstanding_messages_count=sum(len(same) for same in group.outstanding.values()),
        named_consumer_strategy=settings.strategy,
        max_subscriber_count=settings.max_subscribers,
        parked_message_count=group.replay.parked_count,
        connections=[_connection(group, consumer) for consumer in group.consumers],
    )
    if group.checkpoint is not None:
        info.last_checkpointed_event_position = settings.position_text(group.checkpoint)
    if last_known >= 0:
        info.last_known_event_position = settings.position_text(last_known)
    return info


def _status(group: Group) -> str:
    flags = ["Live" if group.source.level and not group.buffer else "Behind"]
    if group.replay.running:
        flags.append("ReplayingParkedMessages")
    return ", ".join(flags)


def _connection(group: Group, consumer: Consumer) -> Info.ConnectionInfo:
    connection = Info.ConnectionInfo(
        username="anonymous",
        average_items_per_second=consumer.total - consumer.measured_total,
        total_items=consumer.total,
        count_since_last_measurement=consumer.total - consumer.measured_total,
        available_slots=consumer.slots - consumer.in_flight,
        in_flight_messages=consumer.in_flight,
        connection_name=consumer.connection_name,
    )
    setattr(connection, "from", consumer.peer)
    if group.settings.extra_statistics:
        connection.observed_measurements.extend(_measurements(consumer))
    return connection


def _measurements(consumer: Consumer) -> list[Info.Measurement]:
    """Return milliseconds between push and answer, of the last thousand messages; never 0."""
    times = sorted(ceil(latency * 1000) for latency in consumer.latencies)
    if not times:
        return []

    def at(share: float) -> int:
        return times[min(int(len(times) * share), len(times) - 1)]

    values = {"Mean": sum(times) // len(times), "Median": at(0.5), "Fastest": times[0]}
    values |= {f"Quintile {number + 1}": at(number / 5) for number in range(5)}
    values["Highest"] = times[-1]
    values |= {f"{share}%": at(share / 100) for share in (90, 95, 99, 99.5, 99.9)}
    return [Info.Measurement(key=key, value=value) for key, value in values.items()]
