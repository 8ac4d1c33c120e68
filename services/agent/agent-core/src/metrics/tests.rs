use super::*;

#[test]
fn annotations_say_where_the_application_is() {
    let of = |text: &str| targets(text, &[15_999]);
    let at = |port, path: &str| ScrapeTarget {
        port,
        path: path.into(),
    };
    assert_eq!(
        of(r#"{"scrape":"true","path":"/m","port":"8080"}"#),
        Ok(vec![at(8080, "/m")])
    );
    assert_eq!(of(r#"{"port": 9}"#), Ok(vec![at(9, "/metrics")]));
    assert_eq!(of("{}"), Ok(vec![at(80, "/metrics")]));
    assert_eq!(of(r#"{"scrape":"false","port":"8080"}"#), Ok(Vec::new()));
    assert_eq!(
        of(r#"{"targets":[{"port":"1"},{"port":2,"path":"x"}]}"#),
        Ok(vec![at(1, "/metrics"), at(2, "/x")])
    );
    for port in [
        15_000, 15_001, 15_004, 15_006, 15_008, 15_020, 15_021, 15_053, 15_090, 15_999,
    ] {
        let text = format!(r#"{{"targets":[{{"port":"{port}"}}]}}"#);
        assert_eq!(of(&text), Err(ScrapeError::Reserved(port)));
    }
    for port in ["015020", "70000", "0", "+1", "x", ""] {
        let text = format!(r#"{{"targets":[{{"port":"{port}"}}]}}"#);
        assert_eq!(of(&text), Err(ScrapeError::Port(port.into())));
    }
    assert!(matches!(
        of("{\"path\":\"/a\\r\\nb\"}"),
        Err(ScrapeError::Path(_))
    ));
    assert!(matches!(of("x"), Err(ScrapeError::Json(_))));
}

fn part(content_type: &str, body: &str) -> Part {
    Part {
        content_type: content_type.into(),
        body: body.into(),
    }
}

#[track_caller]
fn check(applications: &[Part], accepted: &str, want: (&str, &str)) {
    let proxy: [&[u8]; 2] = [b"# TYPE envoy counter\nenvoy 1\n\n", b"# a remark\nagent 2"];
    let merged = merge(&proxy, applications, Some(accepted));
    let body = String::from_utf8(merged.body).unwrap();
    assert_eq!((merged.content_type, body.as_str()), want);
}

#[test]
fn the_application_comes_last_and_its_format_counts() {
    let open =
        "# TYPE app counter\n# UNIT app seconds\napp_total{x=\"a # {b\"} 3 # {id=\"1\"} 1\n# EOF\n";
    let all = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let text = "# TYPE envoy counter\nenvoy 1\n\n# a remark\nagent 2\n";
    check(
        &[part("text/plain", "app 3\n")],
        all,
        (TEXT, &format!("{text}app 3\n")),
    );
    check(
        &[part(OPEN_METRICS, open)],
        all,
        (
            OPEN_METRICS,
            &format!("# TYPE envoy counter\nenvoy 1\nagent 2\n{open}"),
        ),
    );
    check(
        &[part(OPEN_METRICS, open)],
        "text/plain",
        (
            TEXT,
            &format!("{text}# TYPE app counter\napp_total{{x=\"a # {{b\"}} 3\n"),
        ),
    );
    check(
        &[
            part(OPEN_METRICS, "a 1\n# EOF\n"),
            part(OPEN_METRICS, "b 2\n# EOF\n"),
        ],
        all,
        (TEXT, &format!("{text}a 1\nb 2\n")),
    );
    check(
        &[part(
            OPEN_METRICS,
            "# TYPE a info\na_info{v=\"1\"} 1\n# TYPE b unknown\nb 2\n# EOF\n",
        )],
        "text/plain",
        (TEXT, &format!("{text}a_info{{v=\"1\"}} 1\nb 2\n")),
    );
    check(&[], all, (TEXT, text));
    assert_eq!(accept(Some(all), 1), all);
    assert_eq!(accept(Some(all), 2), TEXT);
    assert_eq!(accept(None, 1), TEXT);
}
