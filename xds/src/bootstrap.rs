//! What an Envoy of a fleet is started with. Knows Envoy's bootstrap; knows no file system: what it renders, somebody
//! else writes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::files::Files;
use crate::identity::TRUST_DOMAIN;

/// How long a listener that is removed or changed lets its connections live: Envoy's `--drain-time-s`, to be given on its command line.
///
/// As long as Kubernetes lets a pod end by default. A listener that is gone holds descriptors until then, and a client that an edit of
/// source ranges shuts out keeps its connection as long: Envoy's own ten minutes would be too long for both.
pub const DRAIN: Duration = Duration::from_secs(30);

/// The name of the cluster that leads to the managers.
pub const XDS_CLUSTER: &str = "nave_xds";

/// The settings of one Envoy. [`Bootstrap::render`] makes its files of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The fleet, as in the certificate. For people: the server believes the certificate only.
    pub fleet: String,
    /// The node, as in the certificate.
    pub node: String,
    /// Where managers listen. Envoy goes to another one when a stream ends.
    pub xds_endpoints: Vec<(String, u16)>,
    /// The client certificate. None: streams are not encrypted, and the server has to know by other means who comes.
    pub certificates: Option<Certificates>,
    /// The Unix socket of the admin interface.
    pub admin_socket: PathBuf,
    /// How often statistics go to the managers. None: never.
    pub metrics_every: Option<Duration>,
    /// The memory that Envoy may use; near it, it sheds load. None: no limit.
    pub heap_bytes: Option<u64>,
    /// What Envoy may open; the server gets it as well, which divides it among load balancers.
    pub files: Files,
}

/// Where the client certificate is found. Envoy reads it anew when the directory changes by a rename, as mounted
/// Secrets do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// The directory of `ca.crt`, `tls.crt` and `tls.key`.
    pub directory: PathBuf,
    /// The directory of the two files that tell Envoy so; see [`Rendered::secrets`].
    pub secrets: PathBuf,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The bootstrap, for `envoy --config-path`. JSON, hence also YAML.
    pub bootstrap: Value,
    /// Files that the bootstrap names. Envoy only watches certificates that come by discovery, from a file as well.
    pub secrets: Vec<(PathBuf, Value)>,
}

impl Bootstrap {
    /// Arguments for Envoy's command line that go with the bootstrap: a listener that is removed or changed lets its
    /// connections live for so long. Besides these, `--concurrency` is [`Files::workers`].
    pub fn arguments(drain: Duration) -> Vec<String> {
        let seconds = drain.as_secs().to_string();
        ["--drain-time-s", &seconds, "--drain-strategy", "immediate"].map(str::to_owned).to_vec()
    }

    /// Makes the files.
    pub fn render(&self) -> Rendered {
        let Self { fleet, node, xds_endpoints, certificates, admin_socket, metrics_every, heap_bytes, files } = self;
        let mut bootstrap = json!({
            "node": {"id": node, "cluster": fleet, "metadata": files.metadata()},
            "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o660}}},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER}}],
                },
                "cds_config": {"resource_api_version": "V3", "ads": {}},
                "lds_config": {"resource_api_version": "V3", "ads": {}},
            },
            "static_resources": {"clusters": [xds_cluster(xds_endpoints, certificates.as_ref())]},
            "layered_runtime": {"layers": [limits(node)]},
            "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": allowed_stats()}}},
            "overload_manager": overload(*heap_bytes, files.connections),
        });
        if let Some(every) = metrics_every {
            bootstrap["stats_flush_interval"] = seconds(*every);
            bootstrap["stats_sinks"] = json!([metrics_sink()]);
        }
        Rendered { bootstrap, secrets: certificates.iter().flat_map(secrets).collect() }
    }
}

/// The name of the resource with the limits of connections of this node's Envoy.
pub fn limits_name(node: &str) -> String {
    format!("connections/{node}")
}

/// Limits of connections that the managers set while Envoy runs. A manager that does not serve them must not keep Envoy from starting.
fn limits(node: &str) -> Value {
    let from = json!({"resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "1s"});
    json!({"name": "nave", "rtds_layer": {"name": limits_name(node), "rtds_config": from}})
}

fn seconds(duration: Duration) -> Value {
    json!(format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos()))
}

fn xds_cluster(endpoints: &[(String, u16)], certificates: Option<&Certificates>) -> Value {
    let by_name = endpoints.iter().any(|(host, _)| host.parse::<IpAddr>().is_err());
    let lb_endpoints: Vec<_> = endpoints
        .iter()
        .map(|(host, port)| json!({"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}))
        .collect();
    let mut cluster = json!({
        "name": XDS_CLUSTER,
        "type": if by_name { "STRICT_DNS" } else { "STATIC" },
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": XDS_CLUSTER, "endpoints": [{"lb_endpoints": lb_endpoints}]},
        "upstream_connection_options": {"tcp_keepalive": {
            "keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5,
        }},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "15s", "timeout": "5s"},
            }},
        }},
    });
    if let Some(certificates) = certificates {
        cluster["transport_socket"] = tls(certificates);
    }
    cluster
}

/// The client shows its certificate, and talks to nobody but a manager: another node's certificate is no server's.
fn tls(certificates: &Certificates) -> Value {
    let secret = |name: &str| {
        json!({
            "name": name,
            "sds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": certificates.secrets.join(format!("{name}.json"))},
            },
        })
    };
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificate_sds_secret_configs": [secret(CLIENT)],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [{
                        "san_type": "URI",
                        "matcher": {"prefix": format!("spiffe://{TRUST_DOMAIN}/manager/")},
                    }]},
                    "validation_context_sds_secret_config": secret(AUTHORITY),
                },
            },
        },
    })
}

const CLIENT: &str = "client";
const AUTHORITY: &str = "authority";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

fn secrets(certificates: &Certificates) -> [(PathBuf, Value); 2] {
    let Certificates { directory, secrets } = certificates;
    let file = |name: &str| json!({"filename": directory.join(name)});
    let watched = json!({"path": directory});
    let client = json!({"resources": [{
        "@type": SECRET,
        "name": CLIENT,
        "tls_certificate": {
            "certificate_chain": file("tls.crt"), "private_key": file("tls.key"), "watched_directory": watched,
        },
    }]});
    let authority = json!({"resources": [{
        "@type": SECRET,
        "name": AUTHORITY,
        "validation_context": {"trusted_ca": file("ca.crt"), "watched_directory": watched},
    }]});
    [(CLIENT, client), (AUTHORITY, authority)].map(|(name, value)| (secrets.join(format!("{name}.json")), value))
}

/// What is counted: traffic and failures per load balancer, and whether the control plane gets through. Everything else
/// would cost twice the memory, and a scrape of it seconds of the main thread.
fn allowed_stats() -> Value {
    let prefix = |text: &str| json!({"prefix": text});
    let regex = |text: &str| json!({"safe_regex": {"regex": text}});
    json!([
        regex(r"tcp\..+\.downstream_cx_(total|rx_bytes_total|tx_bytes_total|no_route)"),
        regex(r"listener\..+\.(downstream_cx_active|no_filter_chain_match)"),
        regex(r"udp\..+\.downstream_sess_(total|active|rx_bytes|tx_bytes|no_route)"),
        regex(r"cluster\..+\.upstream_cx_(total|connect_fail|connect_timeout|none_healthy|overflow)"),
        regex(r"cluster\..+/tcp/[0-9]+\.upstream_cx_active"),
        regex(r"cluster\..+\.update_(rejected|failure)"),
        prefix("cluster_manager."),
        prefix("listener_manager."),
        prefix("control_plane."),
        prefix("overload."),
        regex(
            r"server\.(live|state|uptime|memory_allocated|memory_physical_size|total_connections|days_until_first_cert_expiring)"
        ),
    ])
}

/// At so many connections Envoy refuses more: at the end of its descriptors it would abort.
fn overload(heap_bytes: Option<u64>, max_connections: u32) -> Value {
    let mut monitors = vec![json!({
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": max_connections,
        },
    })];
    let mut actions = Vec::new();
    if let Some(bytes) = heap_bytes {
        let heap = "envoy.resource_monitors.fixed_heap";
        monitors.push(json!({
            "name": heap,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                "max_heap_size_bytes": bytes,
            },
        }));
        let action =
            |name: &str, at: f64| json!({"name": name, "triggers": [{"name": heap, "threshold": {"value": at}}]});
        actions.push(action("envoy.overload_actions.shrink_heap", 0.9));
        actions.push(action("envoy.overload_actions.stop_accepting_connections", 0.97));
    }
    json!({"refresh_interval": "0.25s", "resource_monitors": monitors, "actions": actions})
}

/// Counters go to the managers as what they grew by, so that an Envoy that starts anew takes nothing back.
fn metrics_sink() -> Value {
    json!({
        "name": "envoy.stat_sinks.metrics_service",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
            "transport_api_version": "V3",
            "report_counters_as_deltas": true,
            // Managers read no message of more than 4 MiB.
            "batch_size": 1000,
            "grpc_service": {"envoy_grpc": {"cluster_name": XDS_CLUSTER}},
        },
    })
}
