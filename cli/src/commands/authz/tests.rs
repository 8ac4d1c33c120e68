use super::*;

#[test]
fn names_of_policies_are_read() {
    assert_eq!(policy_of("ns[a]-policy[b]-rule[0]"), "a/b");
    assert_eq!(
        policy_of("istio-ext-authz-x-y-ns[a]-policy[b]-rule[0]"),
        "a/b (asks x-y)"
    );
    assert_eq!(
        policy_of("istio-ext-authz-x-ns[a]-policy[b]-rule[0]-deny-due-to-bad-CUSTOM-action"),
        "a/b (asks x) (nobody to ask)"
    );
    assert_eq!(policy_of("revoked-identities"), "revoked-identities");
}

#[test]
fn a_decision_in_words() {
    let name = "ns[a]-policy[b]-rule[0]".to_owned();
    let (decision, notes) = words(&[
        Step::Asked("x".into()),
        Step::WouldRefuse(None),
        Step::Allowed(name.clone()),
    ]);
    assert_eq!(decision, "allowed by a/b");
    assert_eq!(notes, ["a dry run would not allow it", "if x allows it"]);
    assert_eq!(
        words(&[Step::Asked("x".into()), Step::Refused(Some(name))]).1,
        [""; 0]
    );
}
