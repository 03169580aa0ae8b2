"""Reads of streams and of ``$all``: edges, directions, limits, filters, links."""

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import NotFoundError

from tests.contract.eventstore.making import event, events

ANY = StreamState.ANY


def revisions(got: object) -> list[int]:
    return [e.stream_position for e in got]


class TestStream:
    @pytest.fixture(autouse=True)
    def ten(self, client: KurrentDBClient, name: str) -> None:
        client.append_to_stream(name, current_version=ANY, events=events(10))

    def test_forwards(self, client: KurrentDBClient, name: str) -> None:
        assert revisions(client.get_stream(name)) == list(range(10))
        assert revisions(client.get_stream(name, stream_position=8)) == [8, 9]
        assert revisions(client.get_stream(name, stream_position=3, limit=2)) == [3, 4]
        assert revisions(client.get_stream(name, stream_position=10)) == []

    def test_backwards(self, client: KurrentDBClient, name: str) -> None:
        assert revisions(client.get_stream(name, backwards=True, limit=2)) == [9, 8]
        got = client.get_stream(name, backwards=True, stream_position=1)
        assert revisions(got) == [1, 0]
        assert revisions(client.get_stream(name, backwards=True, stream_position=99))[0] == 9

    def test_positions_rise_with_revisions(self, client: KurrentDBClient, name: str) -> None:
        positions = [e.commit_position for e in client.get_stream(name)]
        assert positions == sorted(set(positions))


def test_a_missing_stream_is_not_found(client: KurrentDBClient, name: str) -> None:
    with pytest.raises(NotFoundError):
        client.get_stream(name)


def test_all_forwards_includes_its_start_and_backwards_does_not(
    client: KurrentDBClient, name: str
) -> None:
    first = client.append_to_stream(name, current_version=ANY, events=[event()])
    last = client.append_to_stream(name, current_version=ANY, events=events(3))
    got = [e.commit_position for e in client.read_all(commit_position=first)]
    assert (got[0], got[-1], len(got)) == (first, last, 4)
    backwards = list(client.read_all(commit_position=last, backwards=True, limit=2))
    assert [e.stream_position for e in backwards] == [2, 1]
    assert [e.commit_position for e in client.read_all(commit_position=last + 1_000_000)] == []
    assert client.get_commit_position() == last


@pytest.mark.parametrize("backwards", [False, True])
def test_filters_on_all(client: KurrentDBClient, name: str, backwards: bool) -> None:
    tag = "T" + name.replace("-", "")
    client.append_to_stream(name, current_version=ANY, events=[event(tag + "A"), event(tag + "B")])
    client.append_to_stream("x" + name, current_version=ANY, events=[event(tag + "A")])

    def read(**options: object) -> list[tuple[str, str]]:
        got = [(e.stream_name, e.type) for e in client.read_all(backwards=backwards, **options)]
        return got[::-1] if backwards else got

    mine = [(name, tag + "A"), (name, tag + "B"), ("x" + name, tag + "A")]
    assert read(filter_include=tag + ".") == mine
    assert read(filter_include=(tag + "B",)) == mine[1:2]
    assert read(filter_include=(tag,), filter_by_prefix=True) == mine
    by_stream = {"filter_by_stream_name": True}
    assert read(filter_include=(name,), filter_by_prefix=True, **by_stream) == mine[:2]
    assert read(filter_include=".*" + name, **by_stream) == mine
    assert read(filter_include="^" + name + "$", **by_stream)[:2] == mine[:2]
    rest = read(filter_exclude=(r"\$.*", tag + "A"))
    assert mine[1] in rest
    assert mine[0] not in rest


def test_the_default_filter_hides_system_events(client: KurrentDBClient, name: str) -> None:
    position = client.append_to_stream(name, current_version=ANY, events=[event("$odd"), event()])
    assert [e.type for e in client.read_all(commit_position=position - 1)] == ["Happened"]
    everything = list(client.read_all(filter_exclude=()))
    assert everything[0].type == "$metadata"
    assert everything[-2].type == "$odd"


def test_the_position_of_nothing_is_zero(client: KurrentDBClient, name: str) -> None:
    last = client.append_to_stream(name, current_version=ANY, events=[event()])
    assert client.get_commit_position() == last
    assert client.get_commit_position(filter_exclude=(".*",)) == 0


def test_a_read_can_be_left(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(1000))
    left = client.read_all()
    left.stop()
    assert list(left) == []
    left = client.read_stream(name)
    assert next(left).stream_position == 0
    left.stop()
    assert len(client.get_stream(name)) == 1000


def test_resolved_links_in_all_return_their_target_again(
    client: KurrentDBClient, name: str
) -> None:
    gone, kept = event(), event()
    start = client.append_to_stream(name, current_version=ANY, events=[kept])
    client.append_to_stream("gone-" + name, current_version=ANY, events=[gone])
    links = [event("$>", t.encode()) for t in (f"0@{name}", f"0@gone-{name}")]
    client.append_to_stream("links-" + name, current_version=ANY, events=links)
    client.delete_stream("gone-" + name, current_version=0)

    def ids(resolve: bool) -> list[object]:
        got = client.read_all(commit_position=start, resolve_links=resolve, filter_exclude=())
        return [e.id for e in got]

    assert ids(resolve=False).count(kept.id) == 1
    assert ids(resolve=True).count(kept.id) == 2
    # The deleted one is still in the log, but a link no longer leads to it.
    assert ids(resolve=True).count(gone.id) == 1


def test_links_are_resolved_on_request(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=events(2))
    links = "links-" + name
    targets = [f"1@{name}", f"9@{name}", "nonsense"]
    new = [event("$>", t.encode(), content_type="application/octet-stream") for t in targets]
    client.append_to_stream(links, current_version=ANY, events=new)
    assert [e.type for e in client.get_stream(links)] == ["$>"] * 3
    resolved = client.get_stream(links, resolve_links=True)
    # The client drops the link whose target is missing; the malformed one comes as it is.
    assert [(e.stream_name, e.stream_position) for e in resolved] == [(name, 1), (links, 2)]
    assert resolved[0].link is not None
    assert resolved[0].link.stream_name == links
    assert resolved[0].ack_id == new[0].id
