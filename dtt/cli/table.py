"""
The commands of C{dtt}: their summaries, and the classes that run them.  Pure.

It imports nothing, so C{dtt --help} answers at once.
"""

from __future__ import annotations

#: The commands by their headings: name, module, class of its options, and summary.
GROUPS: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    (
        "Get started",
        (
            (
                "new-topic",
                "dtt.cli.new_topic",
                "NewTopicOptions",
                "Create a ticket, which lets members find each other.",
            ),
            ("chat", "dtt.cli.chat", "ChatOptions", "Join a topic and chat with its members."),
            (
                "demo",
                "dtt.cli.demo",
                "DemoOptions",
                "Show how members find each other in a closed DHT on this machine.",
            ),
        ),
    ),
    (
        "Service",
        (
            (
                "init",
                "dtt.cli.init",
                "InitOptions",
                "Create a state directory with a key and a configuration file.",
            ),
            ("run", "dtt.cli.run", "RunOptions", "Run the service in the foreground, as twistd dtt does."),
            ("status", "dtt.cli.status", "StatusOptions", "Show the status of the running service."),
            ("peers", "dtt.cli.status", "PeersOptions", "List the members that the running service knows."),
        ),
    ),
    (
        "Messages",
        (
            ("find", "dtt.cli.find", "FindOptions", "List the members of a topic, without joining it."),
            (
                "announce",
                "dtt.cli.find",
                "AnnounceOptions",
                "Publish your own content in a topic, without joining it.",
            ),
            ("send", "dtt.cli.messages", "SendOptions", "Send one message to the members of a topic."),
            ("listen", "dtt.cli.messages", "ListenOptions", "Print the messages of a topic as they arrive."),
        ),
    ),
    (
        "Diagnosis",
        (("doctor", "dtt.cli.doctor", "DoctorOptions", "Check this machine, its network and a topic."),),
    ),
    (
        "DHT",
        (
            ("node", "dtt.cli.node", "NodeOptions", "Run a DHT node without topics."),
            (
                "testnet",
                "dtt.cli.testnet",
                "TestnetOptions",
                "Run a closed DHT on this machine, to develop against.",
            ),
            ("dht ping", "dtt.cli.dht_ping", "PingOptions", "Ping a DHT node."),
            ("dht lookup", "dtt.cli.dht_lookup", "LookupOptions", "Find the DHT nodes nearest to an id."),
            ("dht get", "dtt.cli.dht_items", "GetOptions", "Get an item from the DHT."),
            ("dht put", "dtt.cli.dht_items", "PutOptions", "Store an item in the DHT."),
            (
                "dht peers",
                "dtt.cli.dht_peers",
                "PeersOptions",
                "Find the peers that are announced for an info hash.",
            ),
        ),
    ),
    (
        "Slots and records",
        (
            ("slot", "dtt.cli.wire", "SlotOptions", "Show the slot of a topic and a minute."),
            ("open", "dtt.cli.wire", "OpenOptions", "Decrypt and verify a record."),
            ("seal", "dtt.cli.wire", "SealOptions", "Sign and encrypt a record."),
        ),
    ),
    (
        "Help",
        (
            ("help", "", "", "Show the help of a command, or this list."),
            (
                "completion",
                "dtt.cli.completion",
                "CompletionOptions",
                "Print a script that completes commands in a shell.",
            ),
            ("man", "dtt.cli.man", "ManOptions", "Print manual pages, or write them to a directory."),
        ),
    ),
)

#: The module and the class of each command.
COMMANDS: dict[str, tuple[str, str]] = {
    name: (module, options) for _, rows in GROUPS for name, module, options, _ in rows if module
}

#: The summary of each command.
SUMMARIES: dict[str, str] = {name: summary for _, rows in GROUPS for name, _, _, summary in rows}

#: Exit codes, as in the help.
EXIT_CODES: tuple[tuple[str, str], ...] = (
    ("0", "done"),
    ("1", "failed; one line on standard error says why"),
    ("2", "wrong usage"),
    ("3", "nothing was found"),
    ("4", "no service is running (dtt run, twistd dtt)"),
)
