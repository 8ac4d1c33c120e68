use super::*;

#[test]
fn probes_are_read_as_kubernetes_writes_them() {
    let probes = Probes::parse(
        r#"{"/app-health/app/livez": {"httpGet": {"path": "healthz?x=1", "port": 8080, "scheme": "HTTPS",
              "httpHeaders": [{"name": "Host", "value": "app.test"}]}, "timeoutSeconds": 3},
            "/app-health/app/readyz": {"tcpSocket": {"port": 6379}},
            "/app-lifecycle/app/prestopz": {"grpc": {"port": 9000, "service": "x"}, "timeoutSeconds": -1}}"#,
    )
    .unwrap();
    assert_eq!(
        probes.get("/app-health/app/livez"),
        Some(&Probe {
            ask: Ask::Http {
                https: true,
                port: 8080,
                path: "/healthz?x=1".into(),
                headers: vec![("Host".into(), "app.test".into())],
            },
            timeout: Duration::from_secs(3),
        })
    );
    let second = Duration::from_secs(1);
    let ask = |path: &str| {
        let probe = probes.get(path).unwrap();
        assert_eq!(probe.timeout, second);
        probe.ask.clone()
    };
    assert_eq!(ask("/app-health/app/readyz"), Ask::Tcp { port: 6379 });
    assert_eq!(
        ask("/app-lifecycle/app/prestopz"),
        Ask::Grpc {
            port: 9000,
            service: "x".into()
        }
    );
}

#[test]
fn what_cannot_be_asked_is_refused_at_the_start() {
    let path = |path: &str| format!(r#"{{"{path}": {{"tcpSocket": {{"port": 1}}}}}}"#);
    let of = |probe: &str| format!(r#"{{"/app-health/a/livez": {probe}}}"#);
    let refused = |text: &str| Probes::parse(text).unwrap_err();
    for wrong in [
        "/app-health/../livez/x",
        "/app-health//livez",
        "/app-health/a/b/livez",
        "/app-health/a/readyz/",
        "/debug/pprof",
        "app-health/a/livez",
    ] {
        assert_eq!(refused(&path(wrong)), ProbesError::Path(wrong.into()));
    }
    let here = "/app-health/a/livez".to_owned();
    assert_eq!(refused(&of("{}")), ProbesError::Kind(here.clone()));
    assert_eq!(
        refused(&of(r#"{"tcpSocket": {"port": 1}, "grpc": {"port": 1}}"#)),
        ProbesError::Kind(here.clone())
    );
    for port in [r#""http""#, "0", "65536", "-1", "1.5"] {
        let probe = of(&format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#));
        assert_eq!(refused(&probe), ProbesError::Port(here.clone()));
    }
    assert!(matches!(
        refused(&of(r#"{"httpGet": {"port": 1, "path": "/a b"}}"#)),
        ProbesError::Unsendable(..)
    ));
    assert!(matches!(
        refused(&of(
            r#"{"httpGet": {"port": 1, "httpHeaders": [{"name": "A", "value": "x\r\nEvil: 1"}]}}"#
        )),
        ProbesError::Unsendable(..)
    ));
    assert!(matches!(refused("[]"), ProbesError::Json(_)));
}

/// Case 32: a path decides nothing but which of the configured probes is meant.
#[test]
fn paths_are_those_of_the_configuration_letter_by_letter() {
    let probes = Probes::parse(r#"{"/app-health/a/livez": {"tcpSocket": {"port": 1}}}"#).unwrap();
    assert!(probes.get("/app-health/a/livez").is_some());
    for path in [
        "/app-health/../../debug/pprof",
        "/app-health/none/readyz",
        "/app-health/a/livez/",
        "/app-health/%61/livez",
        "/app-health/x/../a/livez",
    ] {
        assert!(
            probes.get(path).is_none() && Probes::is_below(path),
            "{path}"
        );
    }
    assert!(!Probes::is_below("/debug/pprof"));
}

fn target(port: u16, path: &str) -> Target {
    Target {
        https: false,
        host: "10.0.0.1".into(),
        port,
        path: path.into(),
    }
}

/// Case 33: nothing is sent to another host.
#[test]
fn redirects_are_followed_on_the_same_host_only() {
    let first = target(8080, "/a/b?x");
    let of = |location: &str| follow(0, &first, &first, location);
    let there = |port, path: &str| Redirect::Follow(target(port, path));
    for (location, want) in [
        ("/c", there(8080, "/c")),
        ("c", there(8080, "/a/c")),
        ("?y", there(8080, "/a/b?y")),
        (
            "http://10.0.0.1:9/z?u=http://e/",
            there(9, "/z?u=http://e/"),
        ),
        ("http://10.0.0.1", there(80, "/")),
        ("//10.0.0.1:1/x", there(1, "/x")),
        (
            "https://10.0.0.1/s",
            Redirect::Follow(Target {
                https: true,
                ..target(443, "/s")
            }),
        ),
        ("http://169.254.169.254/", Redirect::Enough),
        ("http://10.0.0.1@169.254.169.254/", Redirect::Enough),
        ("//169.254.169.254/", Redirect::Enough),
        ("http://169.254.169.254\\@10.0.0.1/", Redirect::Enough),
        ("gopher://10.0.0.1/", Redirect::Fail),
        ("http:///x", Redirect::Fail),
        ("http://10.0.0.1:99999/", Redirect::Fail),
        ("/a\r\nb", Redirect::Fail),
    ] {
        assert_eq!(of(location), want, "{location}");
    }
    assert_eq!(follow(10, &first, &first, "/c"), Redirect::Fail);
    assert_eq!(follow(9, &first, &first, "/c"), there(8080, "/c"));
}

#[test]
fn own_headers_win_and_connection_headers_stay_behind() {
    let own = vec![("X-Probe".to_owned(), "own".to_owned())];
    let came = [
        ("x-probe", "theirs"),
        ("user-agent", "kube-probe/1.30"),
        ("host", "10.0.0.1:15020"),
        ("Connection", "close"),
    ];
    assert_eq!(
        headers(&own, came.into_iter()),
        [("X-Probe", "own"), ("user-agent", "kube-probe/1.30")]
    );
}

proptest::proptest! {
    /// However a location is written, nothing is followed to another host.
    #[test]
    fn no_location_leads_to_another_host(location in "\\PC{0,60}", at in "[a-z0-9:/@\\\\.#?%\\[\\]-]{0,40}") {
        let first = target(8080, "/a");
        for text in [location, format!("http://{at}"), format!("//{at}")] {
            if let Redirect::Follow(next) = follow(0, &first, &first, &text) {
                proptest::prop_assert_eq!(next.host, "10.0.0.1");
                proptest::prop_assert!(next.path.starts_with('/'));
            }
        }
    }
}
