"""The options of `[bloomery]` in nova.conf. Apart from the rest, so that whoever only reads the file need not import Nova."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup("bloomery", title="Options of Bloomery's driver, in addition to those of [ironic]")
OPTIONS = [
    cfg.IntOpt("deploy_timeout", default=7200, min=1, help="Seconds that a deploy or a rebuild may take."),
    cfg.IntOpt("tear_down_timeout", default=3600, min=1, help="Seconds that tearing a node down may take."),
    cfg.IntOpt("rescue_timeout", default=3600, min=1, help="Seconds that a rescue or unrescue may take."),
    cfg.IntOpt("power_timeout", default=600, min=1, help="Seconds that changing the power of a node may take."),
    cfg.IntOpt("claim_timeout", default=60, min=1, help="Seconds that a locked node is waited for before another is."),
    cfg.IntOpt(
        "console_idle_timeout",
        default=14400,
        min=0,
        help="Seconds after which a console that nova-compute has started, and that nobody asked for since, is stopped. "
        "With 0 it ends with its server. With [consoleauth] enforce_session_timeout it is token_ttl that counts: no session "
        "lasts longer.",
    ),
    cfg.StrOpt(
        "notification_url",
        secret=True,
        help="Where Ironic's notifications are, as oslo.messaging takes it (rabbit://user:password@host:5672/): what they tell "
        "is looked at at once. [oslo_messaging_rabbit] holds for it. Without it nodes are looked at every few seconds.",
    ),
    cfg.StrOpt(
        "notification_pool",
        sample_default="bloomery-nova-<host>",
        help="The queue with this nova-compute's copy of them; named after its host if not set. Empty takes Ironic's own queue, "
        "for whose notifications all that take it compete.",
    ),
    cfg.StrOpt(
        "notification_topic",
        default="ironic_versioned_notifications",
        help="Ironic's [DEFAULT]versioned_notifications_topics.",
    ),
    cfg.StrOpt("notification_exchange", default="ironic", help="Ironic's control_exchange."),
    cfg.IntOpt("connections", default=6, min=1, help="Requests that may be under way at Ironic at once."),
    cfg.IntOpt(
        "full_list_interval",
        default=300,
        min=0,
        help="Seconds after which every node is read again; in between only what has changed is. Nodes that were deleted, "
        "and traits, which Ironic does not count as a change of their node, are seen then. 0 always reads them all.",
    ),
    cfg.IntOpt(
        "node_loss_limit",
        default=50,
        min=1,
        max=100,
        help="Percentage of the known nodes: if more than that have vanished at once, Ironic is not believed, as where the "
        "service user has lost its roles. 100 believes everything.",
    ),
]
