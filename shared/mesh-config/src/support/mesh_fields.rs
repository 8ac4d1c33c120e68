//! Fields of MeshConfig and ProxyConfig that are kept as written and not acted on.

use crate::schema::Unused::{self, Elsewhere, NotYet, Removed};

type Table = [(Unused, &'static [&'static str])];

const MESH_CONFIG: &Table = &[
    // What of them is not acted on, `notes` tell.
    (Elsewhere, &["extensionProviders", "defaultProviders"]),
    (
        NotYet,
        &[
            "ingressSelector",
            "enableEnvoyAccessLogService",
            "configSources",
            "caCertificates",
            "certificates",
            "ca",
            "discoverySelectors",
            "verifyCertificateAtClient",
            "hboneIdleTimeout",
        ],
    ),
    (
        Removed,
        &[
            "authPolicy",
            "thriftConfig",
            "mixerCheckServer",
            "mixerReportServer",
            "mixerAddress",
            "disablePolicyChecks",
            "disableMixerHttpReports",
            "policyCheckFailOpen",
            "sidecarToTelemetrySessionAffinity",
            "reportBatchMaxEntries",
            "reportBatchMaxTime",
            "enableClientSidePolicyCheck",
            "sdsUdsPath",
            "sdsRefreshDelay",
            "sdsUseK8sSaJwt",
            "sdsUseTrustworthyJwt",
            "enableSdsTokenMount",
            "rdsRefreshDelay",
        ],
    ),
];

const PROXY_CONFIG: &Table = &[
    (
        Elsewhere,
        &[
            "configPath",
            "meshId",
            "binaryPath",
            "serviceCluster",
            "drainDuration",
            "terminationDrainDuration",
            "concurrency",
            "proxyMetadata",
            "image",
            "holdApplicationUntilProxyStarts",
            "readinessProbe",
            "proxyBootstrapTemplatePath",
            "customConfigFile",
            "caCertificatesPem",
            "runtimeValues",
            "controlPlaneAuthPolicy",
            "interceptionMode",
            "connectionSettings",
            "proxyHeaders",
        ],
    ),
    (
        NotYet,
        &[
            "tracingServiceName",
            "statsdUdpAddress",
            "envoyAccessLogService",
            "envoyMetricsService",
            "extraStatTags",
            "privateKeyProvider",
            "proxyStatsMatcher",
            "sds",
            "zipkinAddress",
            "fileFlushInterval",
            "fileFlushMinSizeKb",
            "statsCompression",
            "availabilityZone",
        ],
    ),
    (
        Removed,
        &[
            "parentShutdownDuration",
            "discoveryRefreshDelay",
            "connectTimeout",
        ],
    ),
];

const TRACING: &Table = &[
    (Elsewhere, &["maxPathTagLength", "enableIstioTags"]),
    (
        NotYet,
        &[
            "zipkin",
            "lightstep",
            "datadog",
            "stackdriver",
            "openCensusAgent",
            "customTags",
            "tlsSettings",
            "disableContextPropagation",
        ],
    ),
];

const GATEWAY_TOPOLOGY: &Table = &[(Elsewhere, &["proxyProtocol"])];

/// Makes the schema-driven reader know these fields.
pub(crate) fn add_unused_mesh_fields(shape: &mut crate::schema::Shape) {
    let places: [(&[&str], &Table); 4] = [
        (&[], MESH_CONFIG),
        (&["defaultConfig"], PROXY_CONFIG),
        (&["defaultConfig", "tracing"], TRACING),
        (&["defaultConfig", "gatewayTopology"], GATEWAY_TOPOLOGY),
    ];
    for (path, table) in places {
        if let Some(fields) = shape.fields_mut(path) {
            fields.unused.extend(
                table
                    .iter()
                    .flat_map(|(why, names)| names.iter().map(move |name| (*name, *why))),
            );
        }
    }
}
