//! Where the checks write down what they find.

use std::borrow::Cow;

use mesh_types::{Code, FieldError, FieldPath, Segment};

enum Step {
    Field(Cow<'static, str>),
    Index(usize),
}

/// Problems of one object, gathered, with the place that is being looked at.
pub(crate) struct Report {
    path: Vec<Step>,
    errors: Vec<FieldError>,
}

impl Report {
    /// A report about `spec`.
    pub fn of_spec() -> Report {
        Report {
            path: vec![Step::Field("spec".into())],
            errors: Vec::new(),
        }
    }

    /// What was found.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    /// Looks at a field.
    pub fn field<R>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        look: impl FnOnce(&mut Report) -> R,
    ) -> R {
        self.path.push(Step::Field(name.into()));
        let result = look(self);
        self.path.pop();
        result
    }

    /// Looks at one item of a list.
    pub fn item(&mut self, name: &'static str, index: usize, look: impl FnOnce(&mut Report)) {
        self.field(name, |r| {
            r.path.push(Step::Index(index));
            look(r);
            r.path.pop();
        });
    }

    /// Looks at every item of a list.
    pub fn items<'t, T>(
        &mut self,
        name: &'static str,
        items: &'t [T],
        mut look: impl FnMut(&mut Report, usize, &'t T),
    ) {
        self.path.push(Step::Field(name.into()));
        for (i, item) in items.iter().enumerate() {
            self.path.push(Step::Index(i));
            look(self, i, item);
            self.path.pop();
        }
        self.path.pop();
    }

    /// Looks at a field if it is set.
    pub fn some<T>(
        &mut self,
        name: &'static str,
        value: Option<&T>,
        look: impl FnOnce(&mut Report, &T),
    ) {
        if let Some(value) = value {
            self.field(name, |r| look(r, value));
        }
    }

    /// Writes down a problem here.
    pub fn say(&mut self, code: Code, message: impl Into<String>) {
        let steps = self.path.iter().map(|step| match step {
            Step::Field(name) => Segment::Field(name.clone().into_owned()),
            Step::Index(i) => Segment::Index(*i),
        });
        self.errors.push(FieldError::new(
            FieldPath::from(steps.collect::<Vec<_>>()),
            code,
            message,
        ));
    }

    /// Writes down a problem of a field.
    pub fn say_at(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        code: Code,
        message: impl Into<String>,
    ) {
        self.field(name, |r| r.say(code, message));
    }

    /// Writes down what a test of a field's value answered.
    pub fn test(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        code: Code,
        result: Result<(), String>,
    ) {
        if let Err(message) = result {
            self.say_at(name, code, message);
        }
    }

    /// Writes down that something must be set.
    pub fn need(&mut self, name: &'static str, set: bool, why: &str) {
        if !set {
            self.say_at(name, Code::Required, format!("must be set{why}"));
        }
    }

    /// Writes down fields that exclude one another, at the second of those that are set.
    pub fn at_most_one(&mut self, fields: &[(&'static str, bool)]) {
        let set: Vec<&'static str> = fields
            .iter()
            .filter(|(_, set)| *set)
            .map(|(name, _)| *name)
            .collect();
        if let [first, second, ..] = set[..] {
            self.say_at(
                second,
                Code::Conflict,
                format!("excludes {first}; keep one"),
            );
        }
    }
}
