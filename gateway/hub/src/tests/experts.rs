//! The monthly list of experts: what it shows first, what it does then, and what it never does.

use crate::expert_list::{Column, Wrong};
use crate::experts::{Finding, ImportOptions, ImportReport, Reason, import};
use crate::testing::*;
use crate::{admin, services};
use pli_api::{NewService, OrganisationKind};
use pli_storage::args;
use std::fmt::Write as _;
use std::io::Cursor;

const HEADER: &str = "numero;nom;prenom;courriel;specialites;cour_appel\n";

fn applying() -> ImportOptions {
    ImportOptions { company: Some("Experts".into()), apply: true, ..ImportOptions::default() }
}

fn dry() -> ImportOptions {
    ImportOptions { apply: false, ..applying() }
}

fn skipping() -> ImportOptions {
    ImportOptions { skip_wrong: true, ..applying() }
}

async fn run(w: &World, lines: &str, options: &ImportOptions) -> (ImportReport, Vec<Finding>) {
    let mut found = Vec::new();
    let file = Cursor::new(format!("{HEADER}{lines}").into_bytes());
    let report = import(&w.hub, file, options, |finding| found.push(finding.clone())).await.unwrap();
    (report, found)
}

async fn listed(w: &World) -> i64 {
    w.number("SELECT COUNT(*) AS n FROM accounts WHERE expert_number IS NOT NULL", args![]).await
}

/// Number, address, name, whether open: what the list made of each.
async fn accounts(w: &World) -> Vec<(String, String, String, bool)> {
    let sql =
        "SELECT a.expert_number, b.address, b.name, b.closed FROM accounts a JOIN boxes b ON b.id = a.id
               WHERE a.expert_number IS NOT NULL ORDER BY a.expert_number";
    let account = |row: &pli_storage::Row| {
        let closed: Option<i64> = row.get("closed").unwrap();
        (
            row.get("expert_number").unwrap(),
            row.get("address").unwrap(),
            row.get("name").unwrap(),
            closed.is_none(),
        )
    };
    w.rows(sql, args![]).await.iter().map(account).collect()
}

const TWO: &str =
    "1;Dupont;Zoë;Zoe@Experts.example;C.4 Génie civil;Douai\n2;O'Neill;;neill@experts.example;;\n";

on_both! {
    async fn shown_then_done_then_nothing_left_to_do(dialect) {
        let w = World::on(dialect).await;
        let (report, found) = run(&w, TWO, &dry()).await;
        assert_eq!((report.added, report.lines, report.applied, listed(&w).await), (2, 2, false, 0));
        assert_eq!(found[0], Finding::Added { line: 2, number: "1".into(), name: "Zoë Dupont".into(), address: "zoe@experts.example".into() });
        let (report, again) = run(&w, TWO, &applying()).await;
        assert!(report.applied && again == found, "what is done is what was shown");
        let made = accounts(&w).await;
        assert_eq!(made[0], ("1".into(), "zoe@experts.example".into(), "Zoë Dupont".into(), true));
        let row = &w.rows("SELECT function, speciality FROM boxes WHERE address = 'zoe@experts.example'", args![]).await[0];
        assert_eq!(row.get::<String>("function").unwrap(), "Expert judiciaire, Douai");
        assert_eq!(row.get::<String>("speciality").unwrap(), "C.4 Génie civil");
        let invited = w.number("SELECT COUNT(*) AS n FROM invitations WHERE secret IS NULL AND purpose = 'join'", args![]).await;
        let jobs = w.number("SELECT COUNT(*) AS n FROM jobs WHERE kind = 'invitation.send' AND state = 'waiting'", args![]).await;
        assert_eq!((invited, jobs), (2, 2));
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM roles WHERE role = 'expert'", args![]).await, 3);

        let events = w.journal().await.len();
        for options in [dry(), applying()] {
            let (report, found) = run(&w, TWO, &options).await;
            assert_eq!((report.unchanged, found.len()), (2, 0));
        }
        assert_eq!(w.journal().await.len(), events + 1, "that it was imported");
        assert!(w.journal().await.iter().all(|told| !told.detail.to_string().contains('@')));
        let search = ask("GET", "/api/v1/directory?q=douai%20zoe").by(&w.sender);
        assert_eq!(w.call(search).await.expect(200).json()["items"].as_array().unwrap().len(), 1);
    }

    async fn changes_departures_and_returns(dialect) {
        let w = World::on(dialect).await;
        run(&w, TWO, &applying()).await;
        let changed = "1;Dupont-Été;Zoë;nouvelle@experts.example;C.4 Génie civil;Douai\n";
        let (report, found) = run(&w, changed, &dry()).await;
        assert_eq!((report.changed, report.left), (1, 1));
        let Finding::Changed { differences, returned: false, .. } = &found[0] else { panic!("{found:?}") };
        assert_eq!(differences.iter().map(|d| (d.field, d.old.as_str(), d.new.as_str())).collect::<Vec<_>>(), [
            ("courriel", "zoe@experts.example", "nouvelle@experts.example"), ("nom", "Zoë Dupont", "Zoë Dupont-Été")]);
        assert_eq!(found[1], Finding::Left { number: "2".into(), name: "O'Neill".into() });
        run(&w, changed, &applying()).await;
        assert_eq!(accounts(&w).await, [
            ("1".into(), "nouvelle@experts.example".into(), "Zoë Dupont-Été".into(), true),
            ("2".into(), "neill@experts.example".into(), "O'Neill".into(), false)]);
        // An invitation to the old address opens nothing; one went to the new.
        let living = w.number("SELECT COUNT(*) AS n FROM invitations WHERE expires IS NULL", args![]).await;
        assert_eq!((living, w.kinds("account.").await.iter().filter(|kind| *kind == "account.closed").count()), (1, 1));
        // Gone once, not gone again.
        assert_eq!(run(&w, changed, &applying()).await.0.left, 0);
        let (report, found) = run(&w, TWO, &applying()).await;
        assert_eq!((report.changed, report.applied), (2, true));
        assert!(found.iter().any(|f| matches!(f, Finding::Changed { number, returned: true, differences, .. } if number == "2" && differences.is_empty())));
        assert!(accounts(&w).await.iter().all(|(_, _, _, open)| *open));
    }

    async fn each_wrong_line_and_its_reason(dialect) {
        let w = World::on(dialect).await;
        let new = NewService { organisation: None, address: "s@experts.example".into(), name: "S".into(), function: String::new() };
        services::add_service(&w.hub, "Experts", &new).await.unwrap();
        let other = admin::add_organisation(&w.hub, OrganisationKind::Company, "Autre compagnie", 5).await.unwrap();
        let options = ImportOptions { company: Some(other.to_string()), ..applying() };
        run(&w, "90;Ailleurs;;ailleurs@experts.example;;\n", &options).await;
        let long = "é".repeat(500);
        let lines = [
            ("1;Juste;;juste@experts.example;;".to_owned(), None),
            ("1;Double;;double@experts.example;;".to_owned(), Some(Reason::NumberTwice(2))),
            ("2;Double;;JUSTE@experts.example;;".to_owned(), Some(Reason::AddressTwice(2))),
            ("3;Mal;;pas une adresse;;".to_owned(), Some(Reason::Address)),
            ("4;Mal;;a@b@c.example;;".to_owned(), Some(Reason::Address)),
            ("5;Service;;s@experts.example;;".to_owned(), Some(Reason::AddressOfService)),
            (format!("6;Pris;;{};;", w.sender.address), Some(Reason::AddressOfOther)),
            ("7;Pris;;ailleurs@experts.example;;".to_owned(), Some(Reason::AddressOfOther)),
            ("90;Ailleurs;;nouveau@experts.example;;".to_owned(), Some(Reason::OtherCompany)),
            (";Sans;;sans@experts.example;;".to_owned(), Some(Reason::Form(Wrong::Empty(Column::Number)))),
            ("8;;;sans@experts.example;;".to_owned(), Some(Reason::Form(Wrong::Empty(Column::LastName)))),
            ("9;Sans;;;;".to_owned(), Some(Reason::Form(Wrong::Empty(Column::Address)))),
            (format!("10;{long};;long@experts.example;;"), Some(Reason::Form(Wrong::TooLong(Column::LastName)))),
            ("11;Be\tll;;bell@experts.example;;".to_owned(), Some(Reason::Form(Wrong::Control(Column::LastName)))),
            ("12;Droite\u{202e};;d@experts.example;;".to_owned(), Some(Reason::Form(Wrong::Control(Column::LastName)))),
            ("13;\"Ouvert;;o@experts.example;;".to_owned(), Some(Reason::Form(Wrong::OpenQuote))),
            ("14;Court".to_owned(), Some(Reason::Form(Wrong::FieldCount { expected: 6, found: 2 }))),
            ("15;../../L'Été \"\"/\\;;chemin@experts.example;;".to_owned(), None),
        ];
        let text: String = lines.iter().fold(String::new(), |text, (line, _)| text + line + "\n");
        let (report, found) = run(&w, &text, &applying()).await;
        assert!(!report.applied && report.wrong == 16, "nothing is done while a line is wrong");
        assert_eq!(listed(&w).await, 1);
        for (n, (line, reason)) in lines.iter().enumerate() {
            let at = n as u64 + 2;
            let told = found.iter().find_map(|f| match f {
                Finding::Wrong { line, reason } if *line == at => Some(reason.clone()),
                _ => None,
            });
            assert_eq!(&told, reason, "{line}");
            assert!(told.is_none_or(|reason| !reason.to_string().is_empty()));
        }
        let (report, _) = run(&w, &text, &skipping()).await;
        assert_eq!((report.applied, report.added, report.wrong), (true, 2, 16));
        assert_eq!(listed(&w).await, 3);
        // A second run finds the same lines wrong, and nothing to do.
        let (report, _) = run(&w, &text, &skipping()).await;
        assert_eq!((report.added, report.unchanged, report.wrong), (0, 2, 16));
    }

    /// Whoever is named on a wrong line has not left; nor is anyone said to have left while a line names nobody.
    async fn a_wrong_line_closes_no_account(dialect) {
        let w = World::on(dialect).await;
        run(&w, TWO, &applying()).await;
        let (report, _) = run(&w, "1;Dupont;;pas une adresse;;\n2;O'Neill;;neill@experts.example;;\n", &skipping()).await;
        assert_eq!((report.applied, report.left, report.held_back), (true, 0, 0));
        let (report, _) = run(&w, "\"1;Dupont;Zoë;zoe@experts.example;;\n", &skipping()).await;
        assert_eq!((report.applied, report.left, report.held_back), (true, 0, 2));
        assert!(accounts(&w).await.iter().all(|(_, _, _, open)| *open));
    }

    async fn half_a_list_is_not_believed(dialect) {
        let w = World::on(dialect).await;
        let line = |n: usize| format!("{n};Expert{n};;e{n}@experts.example;;\n");
        let all: String = (0..20).map(line).collect();
        run(&w, &all, &applying()).await;
        let few: String = (0..9).map(line).collect();
        for lines in [few.as_str(), ""] {
            let (report, _) = run(&w, lines, &applying()).await;
            assert!(report.too_many_leave && !report.applied);
        }
        assert!(accounts(&w).await.iter().all(|(_, _, _, open)| *open));
        let (report, _) = run(&w, &few, &ImportOptions { many_leave: true, ..applying() }).await;
        assert_eq!((report.applied, report.left), (true, 11));
        assert_eq!(accounts(&w).await.iter().filter(|(_, _, _, open)| *open).count(), 9);
    }

    async fn whoever_leaves_the_list_comes_in_no_more(dialect) {
        let w = World::on(dialect).await;
        run(&w, TWO, &applying()).await;
        let token = admin::add_token(&w.hub, "zoe@experts.example", &pli_api::NewToken { name: "x".into(), days: 9 }).await.unwrap();
        let me = || ask("GET", "/api/v1/me").token(&token.token);
        w.call(me()).await.expect(200);
        run(&w, "2;O'Neill;;neill@experts.example;;\n", &applying()).await;
        w.call(me()).await.problem(401, "sign-in-required");
        run(&w, TWO, &applying()).await;
        w.call(me()).await.problem(401, "sign-in-required");
        // What the operator closed, the list does not open.
        w.change("UPDATE boxes SET closed = $1 WHERE address = 'zoe@experts.example'", args![w.now()]).await;
        let (report, found) = run(&w, TWO, &applying()).await;
        assert_eq!((report.closed, &found[0]), (1, &Finding::Closed { line: 2, number: "1".into() }));
        assert!(!accounts(&w).await[0].3);
    }

    async fn which_company(dialect) {
        let w = World::on(dialect).await;
        let none = ImportOptions { company: None, ..applying() };
        assert_eq!(run(&w, TWO, &none).await.0.company, "Experts");
        admin::add_organisation(&w.hub, OrganisationKind::Company, "Autre compagnie", 5).await.unwrap();
        for company in [None, Some("Inconnue"), Some("Cabinet d'instruction")] {
            let options = ImportOptions { company: company.map(Into::into), ..applying() };
            let file = Cursor::new(format!("{HEADER}{TWO}").into_bytes());
            assert!(import(&w.hub, file, &options, |_| {}).await.err().unwrap().code().status() < 500);
        }
        for bad in [&b""[..], b"\xff\xfeN\0", b"nom\n", b"numero;nom;courriel;numero\n"] {
            let fault = import(&w.hub, Cursor::new(bad.to_vec()), &applying(), |_| {}).await.err().unwrap();
            assert_eq!(fault.code().status(), 422);
            assert!(fault.sentence().starts_with("Liste des experts : "));
        }
    }

    /// Two operators at once, or one and a person: every account once, nothing half done.
    async fn two_imports_at_once(dialect) {
        let w = World::on(dialect).await;
        let lines: String = (0..600).fold(String::new(), |mut text, n| {
            writeln!(text, "{n};Expert{n};;e{n}@experts.example;;").unwrap();
            text
        });
        let text = format!("{HEADER}{lines}").into_bytes();
        let (first, second) = (applying(), applying());
        let (a, b) = tokio::join!(
            import(&w.hub, Cursor::new(text.clone()), &first, |_| {}),
            import(&w.hub, Cursor::new(text), &second, |_| {}),
        );
        for outcome in [a, b] {
            assert!(outcome.is_ok_and(|report| report.applied) || listed(&w).await > 0);
        }
        // Whoever was refused runs it again.
        assert!(run(&w, &lines, &applying()).await.0.applied);
        assert_eq!(listed(&w).await, 600);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM invitations", args![]).await, 600);
    }

    /// A hundred thousand lines with every kind of error among them, in both encodings.
    async fn a_hundred_thousand_lines(dialect) {
        let w = World::on(dialect).await;
        let mut text = HEADER.to_owned();
        for n in 0..100_000_u32 {
            match n % 50 {
                0 => writeln!(text, "{n};Été{n};Zoë;e{n}@experts.example;Génie civil;Douai"),
                1..8 => writeln!(text, "{n};Sans{n};;;;"),
                8..14 => writeln!(text, "{};Double{n};;d{n}@experts.example;;", n - n % 50),
                14..20 => writeln!(text, "{n};Adresse{n};;e{}@experts.example;;", n - n % 50),
                20..26 => writeln!(text, "{n};Mal{n};;pas une adresse;;"),
                26..32 => writeln!(text, "{n};\"Ouvert{n};;o{n}@experts.example;;"),
                32..38 => writeln!(text, "{n};Court{n}"),
                38..44 => writeln!(text, "{n};{};;l{n}@experts.example;;", "x".repeat(500)),
                44..47 => writeln!(text, "{n};Pris{n};;{};;", w.sender.address),
                _ => writeln!(text, "{n};Bell\u{7}{n};;b{n}@experts.example;;"),
            }
            .unwrap();
        }
        let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let mut wrong = 0_u64;
        let count = |finding: &Finding| wrong += u64::from(matches!(finding, Finding::Wrong { .. }));
        let report = import(&w.hub, Cursor::new(latin), &dry(), count).await.unwrap();
        assert_eq!((report.lines, report.added, report.wrong, report.applied), (100_000, 2000, 98_000, false));
        assert_eq!((wrong, listed(&w).await), (98_000, 0));
        let report = import(&w.hub, Cursor::new(text.into_bytes()), &skipping(), |_| {}).await.unwrap();
        assert!(report.applied);
        assert_eq!(listed(&w).await, 2000);
        assert_eq!(accounts(&w).await[0].2, "Zoë Été0");
    }
}
