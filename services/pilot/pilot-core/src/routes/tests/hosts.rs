//! Which virtual hosts there are, and what they answer to.

use expect_test::expect;

use super::*;

#[test]
fn c001_a_service_without_rules() {
    let yaml = service("a", "1", HTTP);
    check(
        &yaml,
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          default: prefix / -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    let config = rds(&yaml, &sidecar("default"), "80");
    expect![[r#"
        {
          "ignorePortInHostMatching": true,
          "name": "80",
          "virtualHosts": [
            {
              "name": "a.default.svc.cluster.local:80",
              "domains": [
                "a.default.svc.cluster.local",
                "a.default.svc.cluster.local.",
                "a",
                "a.default.svc",
                "a.default",
                "10.96.0.1"
              ],
              "routes": [
                {
                  "match": {
                    "prefix": "/"
                  },
                  "route": {
                    "cluster": "outbound|80||a.default.svc.cluster.local",
                    "timeout": "0s",
                    "retryPolicy": {
                      "retryOn": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                      "numRetries": 2,
                      "retryHostPredicate": [
                        {
                          "name": "envoy.retry_host_predicates.previous_hosts",
                          "typedConfig": {}
                        }
                      ],
                      "hostSelectionRetryMaxAttempts": "5"
                    },
                    "maxGrpcTimeout": "0s"
                  },
                  "decorator": {
                    "operation": "a.default.svc.cluster.local:80/*"
                  },
                  "name": "default"
                }
              ],
              "includeRequestAttemptCount": true
            },
            {
              "name": "allow_any",
              "domains": [
                "*"
              ],
              "routes": [
                {
                  "match": {
                    "prefix": "/"
                  },
                  "route": {
                    "cluster": "PassthroughCluster",
                    "timeout": "0s",
                    "maxGrpcTimeout": "0s"
                  },
                  "name": "allow_any"
                }
              ],
              "includeRequestAttemptCount": true
            }
          ],
          "validateClusters": false,
          "maxDirectResponseBodySizeBytes": 1048576
        }"#]].assert_eq(&serde_json::to_string_pretty(&config).unwrap());
}
